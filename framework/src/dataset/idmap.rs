//! Dense node numbers and the user's own ids.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::NodeId;
use crate::dataset::{Side, Sides};
use crate::storage::column::Column;

/// The mapping between dense [`NodeId`]s and the user's own ids.
///
/// In a bipartite set sources and destinations are separate name spaces: user 7 and item 7 are two nodes.
#[derive(Clone, Debug)]
pub struct IdMap {
    own: Column<u64>,
    sides: Sides,
    order: Arc<OnceLock<Order>>,
}

/// How an own id is searched.
#[derive(Debug)]
enum Order {
    /// Own ids ascend within each side, so the column itself is searched.
    Ascending,
    /// Dense numbers in ascending order of own id, side by side.
    Sorted(Vec<u32>),
}

/// An id that no event of the dataset names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {what} has the id {id}")]
pub struct UnknownId {
    what: &'static str,
    /// The queried id.
    pub id: u64,
}

impl IdMap {
    /// A mapping from the own id of each node, `[nodes]`. Ids are distinct within a side.
    pub fn new(own: Vec<u64>, sides: Sides) -> Self {
        Self::from_column(own.into(), sides)
    }

    /// The mapping of a set whose nodes have no ids except their numbers.
    pub fn identity(nodes: usize, sides: Sides) -> Self {
        Self::new((0..nodes as u64).collect(), sides)
    }

    pub(crate) fn from_column(own: Column<u64>, sides: Sides) -> Self {
        Self { own, sides, order: Arc::default() }
    }

    /// Nodes in the mapping.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// The sides that the ids belong to.
    pub fn sides(&self) -> Sides {
        self.sides
    }

    /// The user's own id of a node. Panics on a node that is not in the set.
    pub fn external_id(&self, node: NodeId) -> u64 {
        self.own[node.index()]
    }

    /// Every node's own id, `[nodes]`.
    pub fn external_ids(&self) -> &[u64] {
        &self.own
    }

    /// The node that acts under the user's `id`.
    pub fn source(&self, id: u64) -> Result<NodeId, UnknownId> {
        self.node(Side::Source, id)
    }

    /// The node that is acted on under the user's `id`.
    pub fn destination(&self, id: u64) -> Result<NodeId, UnknownId> {
        self.node(Side::Destination, id)
    }

    /// The node of one side under the user's `id`; in a one-mode set both sides are the same.
    pub fn node(&self, side: Side, id: u64) -> Result<NodeId, UnknownId> {
        let range = self.range(side);
        let found = match self.order.get_or_init(|| self.sort()) {
            Order::Ascending => self.own[range.clone()].binary_search(&id).ok().map(|at| (range.start + at) as u32),
            Order::Sorted(order) => {
                let order = &order[range];
                order.binary_search_by_key(&id, |&node| self.own[node as usize]).ok().map(|at| order[at])
            }
        };
        found.map(NodeId).ok_or(UnknownId { what: self.what(side), id })
    }

    fn range(&self, side: Side) -> Range<usize> {
        match (self.sides, side) {
            (Sides::OneMode, _) => 0..self.len(),
            (Sides::Bipartite { sources }, Side::Source) => 0..sources,
            (Sides::Bipartite { sources }, Side::Destination) => sources..self.len(),
        }
    }

    fn what(&self, side: Side) -> &'static str {
        match (self.sides, side) {
            (Sides::OneMode, _) => "node",
            (Sides::Bipartite { .. }, Side::Source) => "source",
            (Sides::Bipartite { .. }, Side::Destination) => "destination",
        }
    }

    fn sort(&self) -> Order {
        let sides = [self.range(Side::Source), self.range(Side::Destination)];
        if sides.iter().all(|side| self.own[side.clone()].is_sorted()) {
            return Order::Ascending;
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        for side in sides {
            order[side].sort_unstable_by_key(|&node| self.own[node as usize]);
        }
        Order::Sorted(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sources_and_destinations_are_separate_name_spaces() {
        let ids = IdMap::new(vec![7, 3, 7, 9], Sides::Bipartite { sources: 2 });
        assert_eq!((ids.source(7), ids.destination(7)), (Ok(NodeId(0)), Ok(NodeId(2))));
        assert_eq!(ids.source(9).unwrap_err().to_string(), "no source has the id 9");
        assert_eq!(ids.destination(3).unwrap_err().to_string(), "no destination has the id 3");
    }

    #[test]
    fn an_unknown_node_is_named() {
        assert_eq!(IdMap::identity(3, Sides::OneMode).source(3).unwrap_err().to_string(), "no node has the id 3");
    }

    proptest! {
        #[test]
        fn own_and_node_are_inverse(left in prop::collection::hash_set(any::<u64>(), 0..40), right in prop::collection::hash_set(0u64..50, 0..40)) {
            let sources = left.len();
            let ids = IdMap::new(left.into_iter().chain(right).collect(), Sides::Bipartite { sources });
            for node in (0..ids.len() as u32).map(NodeId) {
                let side = ids.sides().of(node).unwrap();
                prop_assert_eq!(ids.node(side, ids.external_id(node)), Ok(node));
            }
        }
    }
}
