//! What observing a batch writes, and why a batch cannot be observed.

use crate::NodeId;

/// New memories, to be written by [`History::observe`](crate::History::observe) for the nodes a batch touches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Nodes the rows belong to, ascending.
    pub nodes: Vec<NodeId>,
    /// `[nodes, D]`.
    pub memory: Vec<f32>,
    /// What mail of the batch carries, `[2 B, width]`, where a model [gives](crate::MailContent::Given) it: row `2 e`
    /// is from the source of event `e`, row `2 e + 1` from its destination. Each goes to the other end. Empty where
    /// mail carries memory.
    pub mail: Vec<f32>,
}

impl Update {
    /// Changes only the neighbourhood: for models without memory.
    pub fn none() -> Update {
        Update::default()
    }
}

/// Why a batch could not be observed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ObserveError {
    /// Time went backwards.
    #[error("event {event} at t={time} arrived after t={newest}")]
    Late {
        /// The late event.
        event: u64,
        /// Its time.
        time: i64,
        /// The newest time already observed.
        newest: i64,
    },
    /// A node that the history does not hold.
    #[error("event {event} names node {node}, but the history holds {nodes} nodes")]
    UnknownNode {
        /// The event.
        event: u64,
        /// The node.
        node: u32,
        /// Nodes held.
        nodes: usize,
    },
    /// An update that leaves out a node the batch touches.
    #[error("the update has no memory row for node {node}")]
    MissingRow {
        /// The node.
        node: u32,
    },
    /// An update without the mail rows of each end, or with mail rows where mail carries memory (width 0).
    #[error(
        "the update says {found} numbers in mail; the ends of {events} events say {width} each: {} in all",
        2 * .events * .width
    )]
    Mail {
        /// Events of the batch.
        events: usize,
        /// Numbers for each end.
        width: usize,
        /// Numbers in the update.
        found: usize,
    },
}
