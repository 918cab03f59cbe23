//! Validates events and sequences them: decides which are duplicates and which are late, in the order of the queue.

use std::fmt;

use rustc_hash::FxHashMap;
use serde_json::Number;
use tempograph_framework::{Sides, TimeUnit, Timestamp};

use crate::artifact::manifest::Manifest;
use crate::log::Mutation;
use crate::log::{Entry, KnownId, Log, event_hash};
use crate::request::incoming::{EventRules, not_before};
use crate::request::{FieldPath, MAX_ITEMS, NewEvent, RequestError, ticks, user_time};
use crate::service::ingest::event_time::TimeBounds;
use crate::service::ingest::queue::{NewestTimes, QueueState};
use crate::service::ingest::refused::Refusal;
use crate::service::ingest::{IngestError, IngestRequest, LONGEST_ID, OnError};
use crate::service::spec::Late;

/// Stands for the number of an event that has none yet.
const UNNUMBERED: u64 = u64::MAX;

/// The rules for events that stay the same as long as the model does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EventSchema {
    unit: TimeUnit,
    edge_width: usize,
    one_mode: bool,
    text_ids: bool,
}

impl fmt::Display for EventSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides = if self.one_mode { "one set of nodes" } else { "sources and destinations" };
        let ids = if self.text_ids { "text" } else { "numbers" };
        write!(
            f,
            "of {sides} with ids that are {ids}, {} features an event, times in 1/{} of `{}`",
            self.edge_width, self.unit.scale, self.unit.description
        )
    }
}

/// A request that passed all checks that do not depend on earlier events.
pub(crate) struct Validated {
    /// The events that passed, each with its index in the request and its time.
    events: Vec<(usize, NewEvent, Timestamp)>,
    refused: Refusals,
}

impl Validated {
    pub fn len(&self) -> usize {
        self.events.len()
    }
}

/// Events that are refused one by one, or the first of which refuses the whole request.
struct Refusals {
    on_error: OnError,
    list: Vec<Refusal>,
}

impl Refusals {
    /// # Errors
    /// The error itself, where it refuses the whole request.
    fn refuse(&mut self, index: usize, event: NewEvent, error: RequestError) -> Result<(), RequestError> {
        match self.on_error {
            OnError::Abort => Err(error),
            OnError::Continue => {
                self.list.push(Refusal { index, event, error });
                Ok(())
            }
        }
    }
}

/// The rules for the times of new events.
pub(crate) struct TimeRules<'a> {
    pub late: Late,
    pub bounds: &'a TimeBounds,
}

/// The new events of a request, at the times at which they are applied.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sequenced {
    pub events: Vec<NewEvent>,
    pub times: Vec<Timestamp>,
    pub late: Vec<(u32, Number)>,
    pub duplicates: u64,
    pub newest: NewestTimes,
    pub refused: Vec<Refusal>,
}

impl EventSchema {
    pub fn of(manifest: &Manifest) -> EventSchema {
        EventSchema {
            unit: manifest.time_unit.clone(),
            edge_width: manifest.widths.edge,
            one_mode: manifest.sides == Sides::OneMode,
            text_ids: manifest.text_ids,
        }
    }

    /// The unit of the times.
    pub fn unit(&self) -> &TimeUnit {
        &self.unit
    }

    /// A time of the log in ticks.
    pub fn ticks(&self, time: &Number) -> Option<Timestamp> {
        ticks(&self.unit, time, FieldPath::field("time")).ok()
    }

    /// The newest times after an entry of the log.
    pub fn newest_after(&self, entry: &Entry, before: NewestTimes) -> NewestTimes {
        let last = |events: &[NewEvent]| events.iter().filter_map(|event| self.ticks(&event.time)).max();
        match &entry.mutation {
            Mutation::Hold { events, .. } => NewestTimes { submitted: before.submitted.max(last(events)), ..before },
            Mutation::Retract { newest: Some(newest), .. } => NewestTimes::applied(self.ticks(newest)),
            _ => {
                let applied = last(entry.new_events()).or(before.applied);
                NewestTimes { applied, submitted: before.submitted.max(applied) }
            }
        }
    }

    /// The times of the events of an entry of the log, those that wait included.
    pub fn times(&self, entry: &Entry) -> Vec<Timestamp> {
        let events = match &entry.mutation {
            Mutation::Hold { events, .. } => events,
            _ => entry.new_events(),
        };
        events.iter().map(|event| self.ticks(&event.time).unwrap_or_default()).collect()
    }

    /// Checks everything that does not depend on earlier events.
    ///
    /// # Errors
    /// The fault of the first event, where it refuses the whole request; or too many events.
    pub fn validate(&self, request: IngestRequest) -> Result<Validated, RequestError> {
        if request.events.len() > MAX_ITEMS {
            return Err(RequestError::TooMany { place: "events".into(), count: request.events.len() });
        }
        let rules = EventRules {
            unit: &self.unit,
            edge_width: self.edge_width,
            newest: None,
            text_ids: self.text_ids,
            exact: true,
        };
        let mut events = Vec::with_capacity(request.events.len());
        let mut refused = Refusals { on_error: request.on_error, list: Vec::new() };
        for (i, event) in request.events.into_iter().enumerate() {
            match validate_event(&rules, &event, i) {
                Ok(time) => events.push((i, event, time)),
                Err(error) => refused.refuse(i, event, error)?,
            }
        }
        Ok(Validated { events, refused })
    }

    /// Leaves out duplicates, and applies the rules for times.
    pub fn sequence(
        &self,
        validated: Validated,
        state: &QueueState,
        log: &dyn Log,
        rules: &TimeRules<'_>,
    ) -> Result<Sequenced, IngestError> {
        let Validated { events, mut refused } = validated;
        let mut sequenced = Sequenced { newest: state.next.newest, ..Sequenced::default() };
        let mut own: FxHashMap<String, KnownId> = FxHashMap::default();
        for (i, mut event, time) in events {
            let id = event.id.clone();
            let hash = id.is_some().then(|| event_hash(&event, &event.time));
            if let (Some(id), Some(hash)) = (&id, hash) {
                let earlier = match own.get(id).or_else(|| state.ids.get(id)) {
                    Some(earlier) => Some(*earlier),
                    None => match state.waiting.with_id(id) {
                        Some(waits) => Some(KnownId { seq: UNNUMBERED, hash: Some(event_hash(waits, &waits.time)) }),
                        None => log.find(id)?,
                    },
                };
                match earlier {
                    Some(earlier) if earlier.is_of(hash) => {
                        sequenced.duplicates += 1;
                        continue;
                    }
                    Some(earlier) => {
                        let number = (earlier.seq != UNNUMBERED).then_some(earlier.seq);
                        let place = FieldPath::of("events", i, "id").to_string();
                        refused.refuse(i, event, RequestError::IdReused { place, id: id.clone(), number })?;
                        continue;
                    }
                    None => {}
                }
            }
            match self.place(&mut sequenced, &mut event, time, FieldPath::of("events", i, "time"), rules) {
                Ok(time) => {
                    own.extend(id.map(|id| (id, KnownId { seq: UNNUMBERED, hash })));
                    sequenced.events.push(event);
                    sequenced.times.push(time);
                }
                Err(error) => refused.refuse(i, event, error)?,
            }
        }
        sequenced.refused = refused.list;
        Ok(sequenced)
    }

    /// Finds the time at which an event is applied.
    fn place(
        &self,
        sequenced: &mut Sequenced,
        event: &mut NewEvent,
        time: Timestamp,
        place: FieldPath<'_>,
        rules: &TimeRules<'_>,
    ) -> Result<Timestamp, RequestError> {
        let NewestTimes { applied, submitted } = sequenced.newest;
        rules.bounds.check(submitted, time, place)?;
        match (not_before(&self.unit, applied, time, place), applied, rules.late) {
            (Ok(()), _, Late::Wait) => {
                sequenced.newest.submitted = submitted.max(Some(time));
                Ok(time)
            }
            (Ok(()), ..) => {
                sequenced.newest = NewestTimes::applied(Some(time));
                Ok(time)
            }
            (Err(_), Some(newest), Late::ApplyNow) => {
                let submitted_time = std::mem::replace(&mut event.time, user_time(&self.unit, newest));
                sequenced.late.push((sequenced.events.len() as u32, submitted_time));
                Ok(newest)
            }
            (Err(error), ..) => Err(error),
        }
    }
}

fn validate_event(rules: &EventRules<'_>, event: &NewEvent, i: usize) -> Result<Timestamp, RequestError> {
    let place = |field| FieldPath::of("events", i, field);
    let time = rules.time(&event.time, place("time"))?;
    rules.validate_values(event, "events", i)?;
    match event.id.as_deref().and_then(id_problem) {
        Some(problem) => Err(RequestError::invalid(place("id"), problem)),
        None => Ok(time),
    }
}

fn id_problem(id: &str) -> Option<String> {
    match id.len() {
        0 => Some("is empty".into()),
        bytes if bytes > LONGEST_ID => Some(format!("has {bytes} bytes; an id may have {LONGEST_ID}")),
        _ => None,
    }
}
