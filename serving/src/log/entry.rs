//! What one entry of the log holds.

use std::ops::Range;

use serde_json::Number;

use crate::Retraction;
use crate::request::{Granularity, NewEvent};

/// One thing that was done to the history, whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Events of the log before it.
    pub first_seq: u64,
    /// What was done.
    pub mutation: Mutation,
}

/// What is done to a history.
#[derive(Clone, Debug, PartialEq)]
pub enum Mutation {
    /// Events happen.
    Events {
        /// The events, at the times they happen at.
        events: Vec<NewEvent>,
        /// Whether one by one or all at once.
        granularity: Granularity,
        /// Late ones among them, by index, with the times they were told with.
        late: Vec<(u32, Number)>,
    },
    /// Nodes are forgotten that no event has named since.
    Expire {
        /// The time since when.
        before: Number,
        /// Numbers of the nodes among which they are looked for.
        nodes: Range<u32>,
    },
    /// Events are taken back.
    Retract {
        /// The events.
        events: Vec<Retraction>,
    },
}

impl Entry {
    /// The events it holds.
    pub fn new_events(&self) -> &[NewEvent] {
        match &self.mutation {
            Mutation::Events { events, .. } => events,
            Mutation::Retract { .. } | Mutation::Expire { .. } => &[],
        }
    }

    /// How many events it holds.
    pub fn events(&self) -> usize {
        self.new_events().len()
    }

    /// Ids of its events, with their numbers.
    pub fn ids(&self) -> impl Iterator<Item = (&str, u64)> {
        self.new_events().iter().zip(self.first_seq..).filter_map(|(event, seq)| Some((event.id.as_deref()?, seq)))
    }

    /// Events of the log up to and with it.
    pub fn next_seq(&self) -> u64 {
        self.first_seq + self.events() as u64
    }
}
