//! Validates events and sequences them: decides which are duplicates and which are late, in the order of the queue.

use std::fmt;

use rustc_hash::FxHashSet;
use serde_json::Number;
use tempograph_framework::{Sides, TimeUnit, Timestamp};

use crate::artifact::manifest::Manifest;
use crate::log::{Entry, Log};
use crate::request::incoming::{EventRules, not_before};
use crate::request::{FieldPath, MAX_ITEMS, NewEvent, RequestError, ticks, user_time};
use crate::service::ingest::queue::QueueState;
use crate::service::ingest::{IngestError, IngestRequest, LONGEST_ID};
use crate::service::spec::Late;

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
    pub request: IngestRequest,
    times: Vec<Timestamp>,
}

/// The new events of a request, at the times at which they are applied.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sequenced {
    pub events: Vec<NewEvent>,
    pub late: Vec<(u32, Number)>,
    pub duplicates: u64,
    pub newest: Option<Timestamp>,
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

    /// Time of an entry's last event.
    pub fn newest(&self, entry: &Entry) -> Option<Timestamp> {
        ticks(&self.unit, &entry.new_events().last()?.time, FieldPath::field("time")).ok()
    }

    /// Checks everything that does not depend on earlier events.
    pub fn validate(&self, request: IngestRequest) -> Result<Validated, RequestError> {
        let events = &request.events;
        if events.len() > MAX_ITEMS {
            return Err(RequestError::TooMany { place: "events".into(), count: events.len() });
        }
        let rules = EventRules {
            unit: &self.unit,
            edge_width: self.edge_width,
            newest: None,
            text_ids: self.text_ids,
            exact: true,
        };
        let mut times = Vec::with_capacity(events.len());
        for (i, event) in events.iter().enumerate() {
            let place = |field| FieldPath::of("events", i, field);
            times.push(rules.time(&event.time, place("time"))?);
            rules.validate_values(event, "events", i)?;
            if let Some(problem) = event.id.as_deref().and_then(id_problem) {
                return Err(RequestError::invalid(place("id"), problem));
            }
        }
        Ok(Validated { request, times })
    }

    /// Leaves out duplicates, and applies the rule for late events.
    pub fn sequence(
        &self,
        validated: Validated,
        state: &QueueState,
        log: &dyn Log,
        late: Late,
    ) -> Result<Sequenced, IngestError> {
        let Validated { request, times } = validated;
        let mut sequenced = Sequenced { newest: state.next.newest, ..Sequenced::default() };
        let mut own: FxHashSet<String> = FxHashSet::default();
        for (i, (mut event, time)) in request.events.into_iter().zip(times).enumerate() {
            if let Some(id) = &event.id {
                if own.contains(id) || state.ids.contains_key(id) || log.find(id)?.is_some() {
                    sequenced.duplicates += 1;
                    continue;
                }
                own.insert(id.clone());
            }
            match (
                not_before(&self.unit, sequenced.newest, time, FieldPath::of("events", i, "time")),
                sequenced.newest,
                late,
            ) {
                (Ok(()), ..) => sequenced.newest = Some(time),
                (Err(_), Some(newest), Late::ApplyNow) => {
                    let submitted_time = std::mem::replace(&mut event.time, user_time(&self.unit, newest));
                    sequenced.late.push((sequenced.events.len() as u32, submitted_time));
                }
                (Err(error), ..) => return Err(error.into()),
            }
            sequenced.events.push(event);
        }
        Ok(sequenced)
    }
}

fn id_problem(id: &str) -> Option<String> {
    match id.len() {
        0 => Some("is empty".into()),
        bytes if bytes > LONGEST_ID => Some(format!("has {bytes} bytes; an id may have {LONGEST_ID}")),
        _ => None,
    }
}
