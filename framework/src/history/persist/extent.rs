//! How much of a history there was at one moment, for who copies it bit by bit while it goes on.

use crate::log::link::Link;
use crate::{Batch, EventId, History, NodeId};

/// What there was of a history at one moment.
///
/// A history is copied as of then while events go on if what an event is about to change is copied before it happens: what is kept by node of
/// the nodes it names and of those that [settle](History::flushed_by) then, and the [places of pairs](History::pair_position) of both; and
/// what is kept by node of the [neighbours that get its mail](crate::Graph::receivers).
/// Lists of all events only grow, and are copied whenever there is time, but for those an event is taken back from.
#[derive(Clone, Debug)]
pub struct SnapshotExtent {
    nodes: usize,
    pairs: usize,
    lists: bool,
    forgets: bool,
    /// Number of the first event that had not settled.
    first_pending: EventId,
}

/// A place in the lists of all events: the `link`-th of the `node`-th.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListCursor {
    /// The node.
    pub node: usize,
    /// The event in its list.
    pub link: usize,
}

impl SnapshotExtent {
    /// Nodes there was room for.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Pairs that had met, where this is kept.
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

    /// What there was of a list then.
    pub(crate) fn settled<'a>(&self, list: &'a [Link]) -> &'a [Link] {
        &list[..list.partition_point(|link| link.event < self.first_pending)]
    }
}

impl History {
    /// What there is of it now.
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

    /// Ends of the events of the newest tick, which the next event may let settle.
    pub fn pending_ends(&self) -> impl Iterator<Item = (NodeId, NodeId)> + Clone + '_ {
        self.graph.pending.iter().map(|event| (event.src, event.dst))
    }

    /// The same of those that a batch, which comes next, lets settle: none where it is of the newest tick, too.
    pub fn flushed_by(&self, batch: &Batch<'_>) -> impl Iterator<Item = (NodeId, NodeId)> + Clone + '_ {
        let pending = &self.graph.pending;
        let later = pending.last().zip(batch.time.last()).is_some_and(|(newest, time)| newest.time < *time);
        self.pending_ends().take(if later { pending.len() } else { 0 })
    }

    /// Where the facts about a pair stand among all, if it has met.
    pub fn pair_position(&self, src: NodeId, dst: NodeId) -> Option<usize> {
        self.graph.pairs.place(src, dst)
    }

    /// Pairs that have met, where this is kept.
    pub fn pairs(&self) -> usize {
        self.graph.pairs.all().len()
    }
}
