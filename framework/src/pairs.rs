//! What has happened between two nodes, and how a candidate stands in the other's recent past.

use rustc_hash::FxHashMap;

use crate::{NodeId, Timestamp};

/// Facts about an asked pair (src, dst), all strictly before the query's time.
///
/// Recent lists are those shown in the view: the last `K` events of the node (sampler `recent`).
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct PairFact {
    /// Events between src and dst so far, in this direction.
    pub count: u32,
    /// Ticks since the last of them.
    pub since_last: Option<f32>,
    /// How often dst is the other end in src's recent list, and where first: 0 is src's newest event.
    pub in_src: Recency,
    /// How often src is the other end in dst's recent list, and where first.
    pub in_dst: Recency,
    /// Distinct nodes that stand in both recent lists.
    pub common: u32,
    /// Events of src and of dst so far.
    pub degrees: [u64; 2],
    /// Ticks since the newest event of src and of dst.
    pub idle: [Option<f32>; 2],
}

/// A node's standing in another's recent list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Recency {
    /// Occurrences among the last `K`.
    pub count: u32,
    /// Position of the newest occurrence.
    pub first: Option<u32>,
}

impl Recency {
    /// Of `node` in a newest-first list of node numbers.
    pub(crate) fn of(node: NodeId, newest_first: &[u32]) -> Recency {
        let mut recency = Recency::default();
        for (position, &other) in newest_first.iter().enumerate() {
            if other == node.0 {
                recency.count += 1;
                recency.first.get_or_insert(position as u32);
            }
        }
        recency
    }
}

/// Count and last time of every settled (src, dst).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PairIndex {
    seen: FxHashMap<(NodeId, NodeId), (u32, Timestamp)>,
}

impl PairIndex {
    pub fn insert(&mut self, src: NodeId, dst: NodeId, time: Timestamp) {
        let (count, last) = self.seen.entry((src, dst)).or_insert((0, time));
        *count += 1;
        *last = time;
    }

    /// Takes an event of the pair back; `last` is the newest that is still known of, if any is.
    pub fn take_back(&mut self, src: NodeId, dst: NodeId, last: Option<Timestamp>) {
        let Some((count, known)) = self.seen.get_mut(&(src, dst)) else { return };
        *count -= 1;
        *known = last.unwrap_or(*known);
        if *count == 0 {
            self.seen.remove(&(src, dst));
        }
    }

    pub fn get(&self, src: NodeId, dst: NodeId) -> Option<(u32, Timestamp)> {
        self.seen.get(&(src, dst)).copied()
    }

    pub fn clear(&mut self) {
        self.seen.clear();
    }

    /// Distinct pairs.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// All entries, ordered by pair: what a snapshot stores.
    pub fn sorted(&self) -> Vec<((NodeId, NodeId), (u32, Timestamp))> {
        let mut all: Vec<_> = self.seen.iter().map(|(&pair, &fact)| (pair, fact)).collect();
        all.sort_unstable();
        all
    }

    pub fn restore(&mut self, entries: impl Iterator<Item = ((NodeId, NodeId), (u32, Timestamp))>) {
        self.seen = entries.collect();
    }
}
