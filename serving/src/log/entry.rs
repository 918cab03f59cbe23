//! The content of one entry of the log.

use std::ops::Range;

use serde_json::Number;

use crate::Retraction;
use crate::log::known::{KnownId, event_hash};
use crate::request::{Granularity, NewEvent};

/// One change of the history, applied whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Events of the log before it.
    pub first_seq: u64,
    /// The change.
    pub mutation: Mutation,
}

/// A change of a history.
#[derive(Clone, Debug, PartialEq)]
pub enum Mutation {
    /// Events are applied.
    Events {
        /// The events, at the times at which they are applied.
        events: Vec<NewEvent>,
        /// Whether they are applied one by one or as one batch.
        granularity: Granularity,
        /// Late events among them, by index, with the times with which they were submitted.
        late: Vec<(u32, Number)>,
    },
    /// Nodes that no event has named since a time are expired.
    Expire {
        /// The time.
        before: Number,
        /// Numbers of the nodes among which idle ones are searched.
        nodes: Range<u32>,
    },
    /// Events are retracted.
    Retract {
        /// The events.
        events: Vec<Retraction>,
        /// The newest time from then on, where the newest events of the log are retracted.
        newest: Option<Number>,
    },
    /// Events wait to be applied in order of time.
    Hold {
        /// The number of the first: events that ever waited are numbered in the order in which they arrived.
        first_arrival: u64,
        /// The events, in any order of time.
        events: Vec<NewEvent>,
    },
    /// Events that waited are applied, one by one.
    Release {
        /// The numbers under which they waited, in the order of the events.
        arrivals: Vec<u64>,
        /// The events, in order of time.
        events: Vec<NewEvent>,
    },
    /// Events that waited are retracted, and never applied.
    Drop {
        /// The numbers under which they waited.
        arrivals: Vec<u64>,
    },
}

impl Entry {
    /// The events that it applies.
    pub fn new_events(&self) -> &[NewEvent] {
        match &self.mutation {
            Mutation::Events { events, .. } | Mutation::Release { events, .. } => events,
            Mutation::Retract { .. } | Mutation::Expire { .. } | Mutation::Hold { .. } | Mutation::Drop { .. } => &[],
        }
    }

    /// Number of events of which it says that they wait, or do not any more.
    pub fn changed_waiting(&self) -> usize {
        match &self.mutation {
            Mutation::Hold { events, .. } => events.len(),
            Mutation::Release { arrivals, .. } | Mutation::Drop { arrivals } => arrivals.len(),
            _ => 0,
        }
    }

    /// Whether it says only which events wait, and so changes no history.
    pub fn changes_only_waiting(&self) -> bool {
        matches!(self.mutation, Mutation::Hold { .. } | Mutation::Drop { .. })
    }

    /// Number of events that it applies.
    pub fn events(&self) -> usize {
        self.new_events().len()
    }

    /// Ids of its events.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.new_events().iter().filter_map(|event| event.id.as_deref())
    }

    /// Ids of its events, with what a log remembers of them.
    pub fn known_ids(&self) -> impl Iterator<Item = (&str, KnownId)> {
        let late = match &self.mutation {
            Mutation::Events { late, .. } => &late[..],
            _ => &[],
        };
        let submitted_time = move |at: usize, event: &NewEvent| {
            let found = late.binary_search_by_key(&(at as u32), |(late, _)| *late);
            found.map_or_else(|_| event.time.clone(), |found| late[found].1.clone())
        };
        self.new_events().iter().zip(self.first_seq..).enumerate().filter_map(move |(at, (event, seq))| {
            let id = event.id.as_deref()?;
            Some((id, KnownId { seq, hash: Some(event_hash(event, &submitted_time(at, event))) }))
        })
    }

    /// Number of the log's events up to and including this entry.
    pub fn next_seq(&self) -> u64 {
        self.first_seq + self.events() as u64
    }
}
