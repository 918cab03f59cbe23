//! An event as each of its ends sees it.

use crate::{EventId, NodeId, Timestamp};

/// One event as seen from one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Link {
    pub time: Timestamp,
    pub event: EventId,
    /// The other end.
    pub node: NodeId,
    /// [`Link::OUTGOING`], [`Link::INCOMING`], or 0 in an empty slot.
    pub direction: u32,
}

impl Link {
    /// The owner was the source.
    pub const OUTGOING: u32 = 1;
    /// The owner was the destination.
    pub const INCOMING: u32 = 2;

    /// Whether the owner was the source and `node` the destination.
    pub fn leads_to(&self, node: NodeId) -> bool {
        self.node == node && self.direction == Link::OUTGOING
    }

    /// Whether `node` was the source and the owner the destination.
    pub fn comes_from(&self, node: NodeId) -> bool {
        self.node == node && self.direction == Link::INCOMING
    }

    /// An event from src to dst as its ends see it: (owner, link). A self-loop is one event of its node.
    pub fn ends(event: EventId, src: NodeId, dst: NodeId, time: Timestamp) -> impl Iterator<Item = (NodeId, Link)> {
        let from = (src, Link { time, event, node: dst, direction: Link::OUTGOING });
        let to = (dst, Link { time, event, node: src, direction: Link::INCOMING });
        std::iter::once(from).chain((src != dst).then_some(to))
    }
}
