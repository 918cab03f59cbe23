//! The extent of a history at one moment, for copying it piece by piece while it goes on.

use crate::log::link::Link;
use crate::{Batch, EventId, History, NodeId};

/// The extent of a history at one moment.
///
/// A history can be copied as of that moment while events go on, if whatever an event is about to change is copied
/// before it is observed: all that is kept by node, of the nodes it names and of those whose events it
/// [flushes](History::flushed_by); the [pair positions](History::pair_position) of both; and all that is kept by node
/// of the [neighbours that get its mail](crate::Graph::receivers). Lists of all events only grow, and can be copied at
/// any time, except those that an event is retracted from.
#[derive(Clone, Debug)]
pub struct SnapshotExtent {
    nodes: usize,
    pairs: usize,
    lists: bool,
    forgets: bool,
    /// Number of the first event that had not settled.
    first_pending: EventId,
}

/// A position in the lists of all events: the `link`-th of the `node`-th.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListCursor {
    /// The node.
    pub node: usize,
    /// The event in its list.
    pub link: usize,
}

impl SnapshotExtent {
    /// Nodes that the history held.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Pairs that had events, where pairs are kept.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Whether all events of each node are kept.
    pub fn lists(&self) -> bool {
        self.lists
    }

    /// Whether nodes had been forgotten.
    pub(crate) fn forgets(&self) -> bool {
        self.forgets
    }

    /// The part of a list that had settled then.
    pub(crate) fn settled<'a>(&self, list: &'a [Link]) -> &'a [Link] {
        &list[..list.partition_point(|link| link.event < self.first_pending)]
    }
}

impl History {
    /// The current extent.
    pub fn extent(&self) -> SnapshotExtent {
        let graph = &self.graph;
        SnapshotExtent {
            nodes: graph.nodes(),
            pairs: graph.pairs.all().len(),
            lists: graph.adjacency.keeps_all(),
            forgets: !graph.valid_from.is_empty(),
            first_pending: self.first_pending(),
        }
    }

    /// Number of the first event that has not settled, or of the next to come.
    pub(crate) fn first_pending(&self) -> EventId {
        self.graph.first_pending()
    }

    /// Ends of the events of the newest tick, which the next event may flush.
    pub fn pending_ends(&self) -> impl Iterator<Item = (NodeId, NodeId)> + Clone + '_ {
        self.graph.pending.iter().map(|event| (event.src, event.dst))
    }

    /// The ends of the pending events that a batch, which comes next, flushes: none where it is of the newest tick,
    /// too.
    pub fn flushed_by(&self, batch: &Batch<'_>) -> impl Iterator<Item = (NodeId, NodeId)> + Clone + '_ {
        let pending = &self.graph.pending;
        let later = pending.last().zip(batch.time.last()).is_some_and(|(newest, time)| newest.time < *time);
        self.pending_ends().take(if later { pending.len() } else { 0 })
    }

    /// The position of the facts about a pair among all, if it has events.
    pub fn pair_position(&self, src: NodeId, dst: NodeId) -> Option<usize> {
        self.graph.pairs.place(src, dst)
    }

    /// Number of pairs that have events, where pairs are kept.
    pub fn pairs(&self) -> usize {
        self.graph.pairs.all().len()
    }
}
