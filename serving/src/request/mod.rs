//! Requests to an engine and their answers, in the user's own ids and times.
pub(crate) mod incoming;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Number;
use tempograph_framework::{Side, TimeUnit, Timestamp};

/// Most events, pairs or candidates of one request.
pub(crate) const MAX_ITEMS: usize = 50_000;

/// An event as it is submitted:
/// `{"src": 17, "dst": 4, "time": 1300.5, "label": 0, "features": [0.5, …], "id": "a81f"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvent {
    /// The source.
    pub src: u64,
    /// The destination.
    pub dst: u64,
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
    pub src: u64,
    /// The destination.
    pub dst: u64,
    /// The time; left out, just after the newest event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Number>,
}

/// "On which destinations will `src` act?"
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankQuery {
    /// The source.
    pub src: u64,
    /// The destinations to rank; left out, every destination of an event so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<Vec<u64>>,
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// The candidate.
    pub dst: u64,
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
    #[error("{place}: no {what} has the id {id}")]
    UnknownNode {
        /// The field of the request.
        place: String,
        /// `node`, or the side of a bipartite set.
        what: &'static str,
        /// The id.
        id: u64,
    },
    /// A time before the newest time so far.
    #[error("{place} is {time}, which is before {newest}, the newest time so far")]
    Late {
        /// The field of the request.
        place: String,
        /// The time, in the user's unit.
        time: f64,
        /// The newest time before it, observed or in the request.
        newest: f64,
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
    /// An answer is not finite, because of weights or memories.
    #[error("the model's answer is not a finite number")]
    NotFinite,
    /// A write panicked before it was complete.
    #[error("the engine broke off in the middle of an event; restart it from its artifact")]
    Broken,
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

/// The user's time in ticks. Whole numbers are scaled exactly; a fraction is allowed only where the times of the data
/// set have fractions.
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
    fn times_that_fit_no_tick_are_named() {
        assert_eq!(read(1, "1.5").unwrap_err(), "time is 1.5, but the times of this set are whole numbers");
        assert_eq!(
            read(1000, "9223372036854775807").unwrap_err(),
            "time is 9223372036854775807, which is out of range"
        );
        assert!(read(1, "1e300").unwrap_err().contains("out of range"));
    }
}
