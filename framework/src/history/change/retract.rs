//! Retraction of events.

use std::sync::Arc;

use crate::log::link::Link;
use crate::{EventId, Graph, History, Memories, NodeId, Timestamp};

impl History {
    /// Retracts events, each given with its two ends: (event, source, destination). Returns how many of them were
    /// still known at one end at least; nothing is left to retract of the others.
    ///
    /// From now on no view shows the event as a neighbour or in facts about pairs. Its unread mail is dropped, and so
    /// is mail that is still in a [slot](crate::Combine::Slots), but a [mean](crate::Combine::MeanSlots) of several
    /// mails keeps it. Of the [neighbours that got its mail](crate::Receivers::Neighbours), those are searched that
    /// are still among the kept events of an end; a neighbour that newer events have pushed out keeps the mail.
    ///
    /// What a model has computed from the event stays: memories it was read into, and later mail that carries those. A
    /// node whose newest event it was is shown with the memory it would have without it, except by a model that
    /// updates nodes without mail. If the newest event of a pair is retracted, the pair's last time becomes that of
    /// the newest event that is still kept, if there is one. Rows of [walks](crate::WalkRule) keep every walk through
    /// a settled event: later events have propagated its part, and the earlier value is not known any more. An event
    /// of the newest tick has not settled, and leaves nothing there.
    /// [`Needs::kept_after_retract`](crate::Needs::kept_after_retract) names what stays.
    ///
    /// Counts as one change of [`version`](History::version), if any was known.
    ///
    /// # Panics
    /// If an event names a node that the history does not hold.
    pub fn retract(&mut self, events: &[(EventId, NodeId, NodeId)]) -> usize {
        // All holders are collected before any event is retracted, since the search reads the other events.
        let holders: Vec<Vec<NodeId>> = events.iter().map(|&(_, src, dst)| self.mail_holders(src, dst)).collect();
        let memories = Arc::make_mut(&mut self.memories);
        let version = self.graph.version + 1;
        let mut taken = 0;
        for (&(event, src, dst), holders) in events.iter().zip(&holders) {
            let waits = |node| memories.mailbox.waiting(node).any(|mail| mail.event == event);
            let waits = holders.iter().any(|&node| waits(node));
            if self.graph.retract(event, src, dst) || waits {
                memories.retract(event, holders, [src, dst], version);
                for &node in holders.iter().filter(|_| self.graph.needs.memory > 0) {
                    self.graph.memory_time[node.index()] = memories.memory_time_from_mail(node);
                }
                taken += 1;
            }
        }
        if taken > 0 {
            (self.graph.version, memories.version) = (version, version);
        }
        taken
    }

    /// Sets the newest time to `newest`, the time of the newest event that is not retracted, so that the events which
    /// come next may be older than those that were [retracted](History::retract). Does nothing if an event that is
    /// later than this is still waiting to settle, or if the newest time is not later.
    ///
    /// A memory that has read a retracted event keeps the time of that event until the next event of its node.
    pub fn lower_newest(&mut self, newest: Timestamp) {
        let graph = &mut self.graph;
        if graph.pending.last().is_none_or(|pending| pending.time <= newest) {
            graph.newest = graph.newest.map(|known| known.min(newest));
        }
    }

    /// Nodes that may hold mail of an event of `src` and `dst` and are searched when the event is
    /// [retracted](History::retract): its ends, and the other ends of their kept events where neighbours get mail.
    pub fn mail_holders(&self, src: NodeId, dst: NodeId) -> Vec<NodeId> {
        let mut holders = vec![src, dst];
        holders.extend(self.graph.may_have_received(src, dst));
        holders
    }
}

impl Graph {
    /// Removes an event from what is shown, if it is still kept.
    fn retract(&mut self, event: EventId, src: NodeId, dst: NodeId) -> bool {
        if let Some(at) = self.pending.iter().position(|known| (known.id, known.src, known.dst) == (event, src, dst)) {
            self.pending.remove(at);
            return true;
        }
        let ends = || Link::ends(event, src, dst, self.origin);
        if !ends().any(|(node, link)| self.adjacency.holds(node, &link)) {
            return false;
        }
        // An end that was forgotten since does not count the event any more.
        let counts = |node: &NodeId| self.valid_from.get(node.index()).is_none_or(|first| event >= *first);
        let ends: Vec<NodeId> = ends().map(|(node, _)| node).filter(counts).collect();
        ends.into_iter().for_each(|node| self.adjacency.retract(node, event));
        if self.needs.pairs {
            let kept =
                [src, dst].into_iter().flat_map(|node| self.adjacency.newest_first(node).map(move |link| (node, link)));
            let between = kept
                .filter(|(node, link)| (*node == src && link.leads_to(dst)) || (*node == dst && link.comes_from(src)));
            let last = between.map(|(_, link)| link.time).max();
            self.pairs.retract(src, dst, last);
        }
        true
    }
}

impl Memories {
    /// Drops unread mail of an event.
    fn retract(&mut self, event: EventId, holders: &[NodeId], ends: [NodeId; 2], version: u64) {
        for &node in holders {
            if self.mailbox.retract(node, event) {
                self.written[node.index()] = version;
            }
            if let Some(&slot) = self.tick.slots.get(&node) {
                self.tick.mailbox.retract(NodeId(slot), event);
            }
        }
        ends.into_iter().for_each(|node| self.written[node.index()] = version);
    }
}
