//! Requests to an engine and their answers, in the user's own ids and times.
pub(crate) mod id;
pub(crate) mod incoming;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Number;
use tempograph_framework::{Side, TimeUnit, Timestamp};

use crate::request::id::ExternalId;

/// Most events, pairs or candidates of one request.
pub(crate) const MAX_ITEMS: usize = 50_000;

/// An event as it is submitted:
/// `{"src": 17, "dst": 4, "time": 1300.5, "label": 0, "features": [0.5, …], "id": "a81f"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    /// The source.
    pub src: ExternalId,
    /// The destination.
    pub dst: ExternalId,
    /// The time, in the dataset's own unit.
    pub time: Number,
    /// The event's label; 0 where it is left out.
    #[serde(default)]
    pub label: f32,
    /// Its features, `[E]`; left out where the model reads none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<f32>>,
    /// The client's own name of the event, at most [`LONGEST_ID`](crate::LONGEST_ID) bytes. An event that is submitted
    /// again under one id is applied once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// "Will `src` act on `dst` at `time`?"
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairQuery {
    /// The source.
    pub src: ExternalId,
    /// The destination.
    pub dst: ExternalId,
    /// The time; left out, just after the newest event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Number>,
}

/// "On which destinations will `src` act?"
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankQuery {
    /// The source.
    pub src: ExternalId,
    /// The destinations to rank; left out, every destination of an event so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Vec<ExternalId>>,
    /// The time; left out, just after the newest event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Number>,
    /// How many of the best are returned (10).
    #[serde(default = "ten")]
    pub k: usize,
}

fn ten() -> usize {
    10
}

/// How the events of one request are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One by one, in order: how they were grouped into requests changes nothing.
    #[default]
    Event,
    /// As one batch of training: they do not see each other's memories.
    Batch,
}

/// One ranked candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The candidate.
    pub dst: ExternalId,
    /// Its logit.
    pub score: f32,
    /// The logit as a probability.
    pub probability: f32,
}

/// How many events a history has observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Events observed.
    pub log_seq: u64,
    /// Batches observed.
    pub version: u64,
}

/// An answer and the one position that all of it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct AtPosition<T> {
    /// The answer.
    pub answer: T,
    /// The position.
    pub position: Position,
}

impl<T> AtPosition<T> {
    /// Converts the answer, at the same position.
    pub(crate) fn map<U>(self, form: impl FnOnce(T) -> U) -> AtPosition<U> {
        AtPosition { answer: form(self.answer), position: self.position }
    }
}

/// Why a request is refused. Nothing of it has been applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// No node has this id.
    #[error("{place}: no {what} has the id {}", shown(id))]
    UnknownNode {
        /// The field of the request.
        place: String,
        /// `node`, or the side of a bipartite set.
        what: &'static str,
        /// The id.
        id: ExternalId,
    },
    /// A time before the newest time so far.
    #[error("{place} is {time}, which is before {newest}, the newest time so far")]
    Late {
        /// The field of the request.
        place: String,
        /// The time, in the user's unit, to the last tick.
        time: String,
        /// The newest time before it, observed or in the request, likewise.
        newest: String,
    },
    /// A time too far in the future: a stream that takes it would refuse all that comes after.
    #[error(transparent)]
    Ahead(Box<AheadError>),
    /// An id that another event has: a repeated id must come with the same event.
    #[error(
        "{place} is `{id}`, the id of another event{}: an event that is sent again must be the same; give this one an id of its own",
        number.map(|number| format!(", number {number} of the log")).unwrap_or_default()
    )]
    IdReused {
        /// The field of the request.
        place: String,
        /// The id.
        id: String,
        /// The number of the other event, if it has one yet.
        number: Option<u64>,
    },
    /// An invalid value.
    #[error("{place} {problem}")]
    Invalid {
        /// The field of the request.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The request has more entries than are allowed.
    #[error("{place} has {count} entries; one request may hold {MAX_ITEMS}")]
    TooMany {
        /// The list of the request.
        place: String,
        /// Number of its entries.
        count: usize,
    },
    /// The deadline passed while the answer was computed, and the work was stopped.
    #[error(
        "the deadline has passed, with {done} % of the answer computed; ask for less, or give it more time (`deadline-ms`)"
    )]
    Deadline {
        /// How much of the answer was computed, in percent.
        done: u64,
    },
    /// Weights or memories have gone wrong.
    #[error(
        "the model's answer is not a finite number: a memory or an event's feature is too large for its weights; roll back, or \
         load weights that bear them"
    )]
    NotFinite,
    /// A write panicked before it was complete.
    #[error("the engine broke off in the middle of an event; restart it from its artifact")]
    Broken,
}

/// An id in a message: text is quoted.
fn shown(id: &ExternalId) -> String {
    match id {
        ExternalId::Number(number) => number.to_string(),
        ExternalId::Text(text) => format!("`{text}`"),
    }
}

/// A time too far in the future.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{place} is {time}, which is more than {bound} ahead of {of} (setting `{setting}`){hint}")]
pub struct AheadError {
    /// The field of the request.
    pub place: String,
    /// The time, in the user's unit, to the last tick.
    pub time: String,
    /// What it is ahead of.
    pub of: String,
    /// How far it may be ahead.
    pub bound: String,
    /// The key of the bound in the server's settings.
    pub setting: &'static str,
    /// A likely reason, or nothing.
    pub hint: String,
}

impl RequestError {
    pub(crate) fn invalid(place: impl ToString, problem: impl Into<String>) -> RequestError {
        RequestError::Invalid { place: place.to_string(), problem: problem.into() }
    }
}

/// The path of a field in a request, such as `events[3].time`. It is formatted only for an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldPath<'a> {
    list: Option<(&'a str, usize)>,
    field: &'a str,
}

impl<'a> FieldPath<'a> {
    /// A field of the request itself.
    pub fn field(field: &'a str) -> FieldPath<'a> {
        FieldPath { list: None, field }
    }

    /// Entry `at` of `list`, or, where `field` is not empty, that field of the entry.
    pub fn of(list: &'a str, at: usize, field: &'a str) -> FieldPath<'a> {
        FieldPath { list: Some((list, at)), field }
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list {
            Some((list, at)) if self.field.is_empty() => write!(f, "{list}[{at}]"),
            Some((list, at)) => write!(f, "{list}[{at}].{}", self.field),
            None => f.write_str(self.field),
        }
    }
}

/// As [`ticks`], of a time that is submitted: it has to be a whole number of ticks, as far as a double can say it.
pub(crate) fn exact_ticks(unit: &TimeUnit, time: &Number, place: FieldPath<'_>) -> Result<Timestamp, RequestError> {
    let found = ticks(unit, time, place)?;
    let (None, Some(submitted_text)) = (time.as_i64(), time.as_f64()) else { return Ok(found) };
    if submitted_text.fract() == 0.0 && submitted_text.abs() >= TWO_53 {
        let problem =
            format!("is the fraction {time}, which is too large to tell every tick: write it as a whole number");
        return Err(RequestError::invalid(place, problem));
    }
    // Half a double's step: of what is nearer, the double says no more.
    if (unit.from_ticks(found) - submitted_text).abs() <= submitted_text.abs() * f64::EPSILON {
        return Ok(found);
    }
    let below = if unit.from_ticks(found) > submitted_text { Timestamp(found.0.saturating_sub(1)) } else { found };
    let [below, above] = [below, Timestamp(below.0.saturating_add(1))].map(|time| user_text(unit, time));
    let problem =
        format!("is {time}, but times of this set are whole 1/{}: {below} and {above} are beside it", unit.scale);
    Err(RequestError::invalid(place, problem))
}

/// From here on a double does not have every whole number.
const TWO_53: f64 = (1u64 << 53) as f64;

/// A time in the user's unit: a whole number exactly; otherwise a fraction that converts back to the same tick, or, where
/// doubles are too coarse, to the next one above.
pub(crate) fn user_time(unit: &TimeUnit, time: Timestamp) -> Number {
    let scale = i64::try_from(unit.scale).unwrap_or(1).max(1);
    if time.0 % scale == 0 {
        return (time.0 / scale).into();
    }
    let mut own = unit.from_ticks(time);
    while unit.to_ticks(own).is_some_and(|read| read < time) {
        own = own.next_up();
    }
    Number::from_f64(own).unwrap_or_else(|| (time.0 / scale).into())
}

/// A time in the user's unit as text, to the last tick where a unit has a power of ten of them.
pub(crate) fn user_text(unit: &TimeUnit, time: Timestamp) -> String {
    let scale = unit.scale.max(1);
    let (whole, part) = (time.0.unsigned_abs() / scale, time.0.unsigned_abs() % scale);
    let digits = scale.ilog10() as usize;
    if part == 0 || 10u64.checked_pow(digits as u32) != Some(scale) {
        return user_time(unit, time).to_string();
    }
    let sign = if time.0 < 0 { "-" } else { "" };
    let fraction = format!("{part:0digits$}");
    format!("{sign}{whole}.{}", fraction.trim_end_matches('0'))
}

/// The user's time in ticks. Whole numbers are scaled exactly; a fraction needs a set whose times have fractions, and is
/// rounded to the nearest tick.
pub(crate) fn ticks(unit: &TimeUnit, time: &Number, place: FieldPath<'_>) -> Result<Timestamp, RequestError> {
    let whole = |time: i64| time.checked_mul(i64::try_from(unit.scale).ok()?).map(Timestamp);
    let ticks = match (time.as_i64(), time.as_f64()) {
        (Some(time), _) => whole(time),
        (None, Some(fraction)) if unit.scale == 1 && fraction.fract() != 0.0 => {
            return Err(RequestError::invalid(
                place,
                format!("is {time}, but the times of this set are whole numbers"),
            ));
        }
        (None, Some(time)) => unit.to_ticks(time),
        (None, None) => None,
    };
    ticks.ok_or_else(|| RequestError::invalid(place, format!("is {time}, which is out of range")))
}

/// A logit as a probability.
pub(crate) fn probability(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// The side a client names.
///
/// # Errors
/// A word that is no side.
pub(crate) fn side_of(name: &str) -> Result<Side, RequestError> {
    match name {
        "source" => Ok(Side::Source),
        "destination" => Ok(Side::Destination),
        other => Err(RequestError::invalid("side", format!("is `{other}`; it is `source` or `destination`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(scale: u64, time: &str) -> Result<i64, String> {
        let unit = TimeUnit { description: String::new(), scale };
        ticks(&unit, &serde_json::from_str(time).unwrap(), FieldPath::field("time"))
            .map(|time| time.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn whole_times_are_exact_and_fractions_are_scaled() {
        assert_eq!(read(1, "9007199254740993"), Ok(9007199254740993));
        assert_eq!((read(1000, "12.345"), read(1000, "-2"), read(1, "3.0")), (Ok(12345), Ok(-2000), Ok(3)));
    }

    #[test]
    fn a_time_is_a_whole_number_of_ticks_or_refused_with_its_neighbours() {
        let submitted_text = |scale: u64, time: &str| {
            let unit = TimeUnit { description: String::new(), scale };
            exact_ticks(&unit, &serde_json::from_str(time).unwrap(), FieldPath::field("time"))
                .map(|time| time.0)
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            (submitted_text(10, "400.5"), submitted_text(10, "400"), submitted_text(10, "-0.1")),
            (Ok(4005), Ok(4000), Ok(-1))
        );
        assert_eq!(
            submitted_text(10, "400.55").unwrap_err(),
            "time is 400.55, but times of this set are whole 1/10: 400.5 and 400.6 are beside it"
        );
        assert_eq!(
            submitted_text(10, "-400.55").unwrap_err(),
            "time is -400.55, but times of this set are whole 1/10: -400.6 and -400.5 are beside it"
        );
        for ticks in (0..200_000i64).map(|i| i * 7_919_191) {
            let text = user_text(&TimeUnit { description: String::new(), scale: 100_000 }, Timestamp(ticks));
            assert_eq!(submitted_text(100_000, &text), Ok(ticks), "{text}");
        }
        assert_eq!(submitted_text(1, "1700000013721497601"), Ok(1_700_000_013_721_497_601));
        assert!(submitted_text(1, "1.7000000137214976e18").unwrap_err().contains("write it as a whole number"));
        assert_eq!(submitted_text(1, "3.0"), Ok(3));
    }

    #[test]
    fn every_tick_is_written_exactly() {
        let text = |scale, ticks| user_text(&TimeUnit { description: String::new(), scale }, Timestamp(ticks));
        assert_eq!(text(1, 1_700_000_013_721_497_601), "1700000013721497601");
        assert_eq!(text(1_000_000_000, 1_700_000_013_721_497_601), "1700000013.721497601");
        assert_eq!(
            (text(10, -4005), text(10, -5), text(10, 40), text(1, i64::MIN)),
            ("-400.5".into(), "-0.5".into(), "4".into(), i64::MIN.to_string())
        );
        let unit = TimeUnit { description: String::new(), scale: 1 };
        assert_eq!(user_time(&unit, Timestamp(i64::MAX)).to_string(), "9223372036854775807");
    }

    #[test]
    fn times_that_fit_no_tick_are_named() {
        assert_eq!(read(1, "1.5").unwrap_err(), "time is 1.5, but the times of this set are whole numbers");
        assert_eq!(
            read(1000, "9223372036854775807").unwrap_err(),
            "time is 9223372036854775807, which is out of range"
        );
        assert!(read(1, "1e300").unwrap_err().contains("out of range"));
    }
}
