//! Facts that a view shows of a queried pair: the events between its nodes, and each node's occurrences in the other's
//! recent events.

use crate::NodeId;

/// Facts about a queried pair (src, dst), all strictly before the query's time.
///
/// Recent lists are those shown in the view: the last `K` events of the node (sampler `recent`).
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct PairFact {
    /// Events between src and dst so far, in this direction.
    pub count: u32,
    /// Ticks since the last of them.
    pub since_last: Option<f32>,
    /// How often dst is the other end in src's recent list, and its first position: 0 is src's newest event.
    pub in_src: Recency,
    /// How often src is the other end in dst's recent list, and its first position.
    pub in_dst: Recency,
    /// Distinct nodes that are in both recent lists.
    pub common: u32,
    /// Events of src and of dst so far.
    pub degrees: [u64; 2],
    /// Ticks since the newest event of src and of dst.
    pub idle: [Option<f32>; 2],
}

/// A node's occurrences in another's recent list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Recency {
    /// Occurrences among the last `K`.
    pub count: u32,
    /// Position of the newest occurrence.
    pub first: Option<u32>,
}

impl Recency {
    /// The recency of `node` in a newest-first list of node numbers.
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
