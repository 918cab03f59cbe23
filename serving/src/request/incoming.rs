//! Submitted events, validated and stored as columns.

use std::ops::Range;

use serde_json::Number;
use tempograph_framework::{Batch, EventId, NodeId, TimeUnit, Timestamp};

use crate::request::id::{ExternalId, LONGEST_NODE_ID};
use crate::request::{FieldPath, MAX_ITEMS, NewEvent, RequestError, exact_ticks, ticks, user_text};

/// Events with the numbers of their nodes. The events are numbered from `first`.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub first: u64,
    pub src: Vec<NodeId>,
    pub dst: Vec<NodeId>,
    pub time: Vec<Timestamp>,
    pub label: Vec<f32>,
}

impl Incoming {
    /// Removes all events and keeps the allocated memory. The next events are numbered from `first`.
    pub fn clear(&mut self, first: u64) {
        self.first = first;
        self.src.clear();
        self.dst.clear();
        self.time.clear();
        self.label.clear();
    }

    /// The events of `range` as a batch.
    pub fn batch(&self, range: Range<usize>) -> Batch<'_> {
        Batch {
            first: EventId(self.first + range.start as u64),
            src: &self.src[range.clone()],
            dst: &self.dst[range.clone()],
            time: &self.time[range.clone()],
            label: &self.label[range],
        }
    }

    /// All events as one batch.
    pub fn whole(&self) -> Batch<'_> {
        self.batch(0..self.time.len())
    }
}

/// The rules by which events are validated.
pub(crate) struct EventRules<'a> {
    pub unit: &'a TimeUnit,
    /// Width `E` of the features that every event must have; 0 for none.
    pub edge_width: usize,
    pub newest: Option<Timestamp>,
    /// Whether the ids of the set are text.
    pub text_ids: bool,
    /// Whether a time that is no whole number of ticks is refused. One from the log was taken before, and is rounded.
    pub exact: bool,
}

impl EventRules<'_> {
    /// Validates `events` except for their ids. `list` is the events' name in the request. Adds their times in ticks to
    /// `times`.
    pub fn validate(&self, list: &str, events: &[NewEvent], times: &mut Vec<Timestamp>) -> Result<(), RequestError> {
        if events.len() > MAX_ITEMS {
            return Err(RequestError::TooMany { place: list.into(), count: events.len() });
        }
        let mut newest = self.newest;
        for (i, event) in events.iter().enumerate() {
            let place = |field| FieldPath::of(list, i, field);
            let time = self.time(&event.time, place("time"))?;
            not_before(self.unit, newest, time, place("time"))?;
            self.validate_values(event, list, i)?;
            newest = Some(time);
            times.push(time);
        }
        Ok(())
    }

    /// The time of an event in ticks.
    pub fn time(&self, time: &Number, place: FieldPath<'_>) -> Result<Timestamp, RequestError> {
        if self.exact { exact_ticks(self.unit, time, place) } else { ticks(self.unit, time, place) }
    }

    /// Checks ids, label and features of event `i` of `list`.
    pub fn validate_values(&self, event: &NewEvent, list: &str, i: usize) -> Result<(), RequestError> {
        self.validate_id(&event.src, FieldPath::of(list, i, "src"))?;
        self.validate_id(&event.dst, FieldPath::of(list, i, "dst"))?;
        if !event.label.is_finite() {
            return Err(RequestError::invalid(FieldPath::of(list, i, "label"), "is not a finite 32-bit number"));
        }
        self.validate_features(event.features.as_deref(), FieldPath::of(list, i, "features"))
    }

    fn validate_id(&self, id: &ExternalId, place: FieldPath<'_>) -> Result<(), RequestError> {
        let ExternalId::Text(text) = id else { return Ok(()) };
        if text.is_empty() {
            return Err(RequestError::invalid(place, "is empty; an id has at least one character"));
        }
        if text.len() > LONGEST_NODE_ID {
            let problem = format!("is an id of {} bytes; {LONGEST_NODE_ID} are the most", text.len());
            return Err(RequestError::invalid(place, problem));
        }
        if !self.text_ids && id.in_form(false).is_none() {
            return Err(RequestError::invalid(
                place,
                format!("is `{text}`, and the ids of this set are whole numbers"),
            ));
        }
        Ok(())
    }

    fn validate_features(&self, features: Option<&[f32]>, place: FieldPath<'_>) -> Result<(), RequestError> {
        let expected = self.edge_width;
        match features {
            None if expected > 0 => Err(RequestError::invalid(
                place,
                format!("is missing: this model reads {expected} features of every event"),
            )),
            Some(row) if row.len() != expected => {
                Err(RequestError::invalid(place, format!("has {} values where this model reads {expected}", row.len())))
            }
            Some(row) => match row.iter().position(|value| !value.is_finite()) {
                Some(at) => Err(RequestError::invalid(format!("{place}[{at}]"), "is not a finite 32-bit number")),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}

/// Refuses a time before the newest.
pub(crate) fn not_before(
    unit: &TimeUnit,
    newest: Option<Timestamp>,
    time: Timestamp,
    place: FieldPath<'_>,
) -> Result<(), RequestError> {
    match newest.filter(|&newest| time < newest) {
        Some(newest) => Err(RequestError::Late {
            place: place.to_string(),
            time: user_text(unit, time),
            newest: user_text(unit, newest),
        }),
        None => Ok(()),
    }
}
