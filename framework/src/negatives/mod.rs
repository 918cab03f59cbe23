//! Negatives: destinations that an event did not have, which the model scores against the true one.
//!
//! A [`NegativeSampler`] draws them by a [`NegativeRule`] as a pure function of (seed, purpose, epoch, event), so they
//! depend neither on the batch size nor on earlier draws. [`FixedNegatives`] come from a file. A [`NegativeSet`] is
//! one or the other, for evaluation.
mod candidates;
mod fixed;
mod numbering;
mod pickle;
mod sampler;
mod set;
mod tgb;

use std::path::PathBuf;

use crate::{EventId, NodeId, Timestamp};

pub use candidates::Candidates;
pub use fixed::FixedNegatives;
pub use sampler::{NegativeRule, NegativeSampler};
pub use set::{BatchNegatives, NegativeSet};
pub use tgb::tgb_negatives;

/// Why there are no negatives.
#[derive(Debug, thiserror::Error)]
pub enum NegativesError {
    /// The log's columns differ in length.
    #[error("{src} sources, {dst} destinations and {time} times: a log's columns are equally long")]
    Lengths {
        /// Number of sources.
        src: usize,
        /// Number of destinations.
        dst: usize,
        /// Number of times.
        time: usize,
    },
    /// The log is longer than the index can count.
    #[error("{events} events: the index of negatives holds at most 4294967295")]
    TooManyEvents {
        /// Number of events.
        events: usize,
    },
    /// The log is not sorted by time.
    #[error("event {event} is earlier than the one before it")]
    Unsorted {
        /// The later row.
        event: EventId,
    },
    /// The event is not in the log or table that negatives are drawn for.
    #[error("event {event} has no negatives: they are known for events {first} up to, not including, {end}")]
    UnknownEvent {
        /// The queried event.
        event: EventId,
        /// First event of the log or table.
        first: EventId,
        /// One past its last event.
        end: EventId,
    },
    /// The only destination is the true one.
    #[error("event {event}: its destination {dst} is the only one, so it has no negative")]
    NoCandidate {
        /// The queried event.
        event: EventId,
        /// Its destination.
        dst: NodeId,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file of fixed negatives does not keep its form.
    #[error("{path}: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the values.
        reason: String,
    },
    /// A table's offsets do not describe its negatives.
    #[error("{offsets} offsets ending at {end} do not lay out {negatives} negatives")]
    Offsets {
        /// Number of offsets.
        offsets: usize,
        /// The last of them.
        end: usize,
        /// Number of negatives.
        negatives: usize,
    },
    /// An event without negatives.
    #[error("row {row} (event {event}) lists no negatives: an event is ranked among one or more")]
    Empty {
        /// The row of the table.
        row: usize,
        /// Its event.
        event: EventId,
    },
    /// A negative that is none.
    #[error("row {row} (event {event}), negative {index}: node {node} {problem}")]
    Negative {
        /// The row of the table.
        row: usize,
        /// Its event.
        event: EventId,
        /// Which of the row's negatives, from zero.
        index: usize,
        /// The node.
        node: NodeId,
        /// Why it is no negative, and what to do.
        problem: String,
    },
    /// A file of the Temporal Graph Benchmark has no entry for an event.
    #[error("event {event}: the file has no negatives for source {src}, destination {dst} at time {time}")]
    NotListed {
        /// The event.
        event: EventId,
        /// Its source.
        src: NodeId,
        /// Its destination.
        dst: NodeId,
        /// Its time.
        time: Timestamp,
    },
}
