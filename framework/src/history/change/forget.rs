//! Forgetting nodes that have had no events for a while.

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::log::link::Link;
use crate::{EventId, Graph, History, NodeId, Timestamp};

impl History {
    /// Those of `nodes` that have had an event, but none from `time` on, ascending. Mail of other nodes' events does
    /// not count.
    pub fn idle_since(&self, time: Timestamp, nodes: Range<u32>) -> Vec<NodeId> {
        let graph = &self.graph;
        let touched = |node: NodeId| graph.adjacency.degree(node) > 0 || self.memories.holds(node);
        // An event of the newest tick is in no list yet.
        let present: FxHashSet<NodeId> = self.pending_ends().flat_map(|(src, dst)| [src, dst]).collect();
        let nodes = (nodes.start..nodes.end.min(graph.nodes() as u32)).map(NodeId);
        nodes.filter(|&node| graph.is_idle_since(node, time) && touched(node) && !present.contains(&node)).collect()
    }

    /// Forgets all state of `nodes`, which must have no event in the newest tick: memory, mail and neighbours are
    /// those of new nodes. They are nobody's neighbour any more, so their numbers may be reused. Counts of pairs stay.
    /// Other nodes' walks that passed through them stay, too, and end at no current node: the next node of that number
    /// has a random row of its own.
    /// Counts as one change of [`version`](History::version).
    ///
    /// # Panics
    /// If all events of a node are kept, or the history does not hold one of `nodes`.
    pub fn forget(&mut self, nodes: &[NodeId]) {
        let version = self.graph.version + 1;
        let memories = Arc::make_mut(&mut self.memories);
        for &node in nodes {
            memories.forget(node, version);
            self.graph.forget(node);
        }
        (self.graph.version, memories.version) = (version, version);
    }
}

impl Graph {
    /// Whether no settled event of `node`, as far as events are kept, is from `time` on.
    fn is_idle_since(&self, node: NodeId, time: Timestamp) -> bool {
        // Where each event of a node leaves mail there, and nothing else does, mail has the time of the newest event.
        if self.needs.memory > 0 && self.needs.receivers() == 0 {
            return self.memory_time(node) < time;
        }
        match self.adjacency.newest_first(node).next() {
            Some(newest) => newest.time < time,
            // All kept events have been retracted.
            None => self.needs.memory > 0 && self.memory_time(node) < time,
        }
    }

    fn forget(&mut self, node: NodeId) {
        if self.valid_from.is_empty() {
            self.valid_from = vec![EventId(0); self.nodes()];
        }
        self.valid_from[node.index()] = EventId(self.seen);
        self.memory_time[node.index()] = self.origin;
        self.tick.nodes.remove(&node);
        self.adjacency.forget(node);
        if let Some(walks) = &mut self.walks {
            walks.forget(node, self.valid_from[node.index()]);
        }
    }

    /// Whether a link leads to the node that has the number now, and not to an earlier node of that number.
    pub(crate) fn leads_to_current_node(&self, link: &Link) -> bool {
        self.valid_from.get(link.node.index()).is_none_or(|&first| link.event >= first)
    }
}
