//! What observing a batch writes, and why a batch cannot be observed.

use crate::NodeId;

/// New memories, to be written by [`History::observe`](crate::History::observe) for the nodes a batch touches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// Nodes the rows belong to, ascending.
    pub nodes: Vec<NodeId>,
    /// `[nodes, D]`.
    pub memory: Vec<f32>,
    /// What mail of the batch says, `[2 B, width]`, where a model [gives](crate::MailContent::Given) it: row `2 e` is what the source of event `e`
    /// says, row `2 e + 1` what its destination says. Each goes to the other end. Empty where mail says memory.
    pub mail: Vec<f32>,
}

impl Update {
    /// Nothing changes but the neighbourhood: for models without memory.
    pub fn none() -> Update {
        Update::default()
    }
}

/// Why a batch could not happen.
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
    /// A node the history has no room for.
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
    /// An update that does not say what mail of each end says, or says it where mail says memory (width 0).
    #[error(
        "the update says {found} numbers in mail; the ends of {events} events say {width} each: {} in all",
        2 * .events * .width
    )]
    Mail {
        /// Events of the batch.
        events: usize,
        /// Numbers that each end says.
        width: usize,
        /// Numbers in the update.
        found: usize,
    },
}
