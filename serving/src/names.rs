//! The user's own ids of the nodes, growing as new ones appear.

use rustc_hash::{FxHashMap, FxHashSet};
use tempograph_framework::{Dataset, NodeId, Side, Sides, Store, StoreError};

/// Which node each of the user's ids is, and which nodes have been acted on so far.
///
/// In a bipartite set user 7 and item 7 are two nodes. New nodes get the next free number whichever side they are on.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    bipartite: bool,
    /// `[N]`.
    own: Vec<u64>,
    /// `[N]`, all of them sources in a one-mode set.
    side: Vec<Side>,
    node_of: FxHashMap<(Side, u64), NodeId>,
    /// Nodes that were the destination of an event so far, in the order they first were.
    destinations: Vec<NodeId>,
    acted_on: FxHashSet<NodeId>,
}

impl Names {
    fn none(bipartite: bool) -> Names {
        Names {
            bipartite,
            own: Vec::new(),
            side: Vec::new(),
            node_of: FxHashMap::default(),
            destinations: Vec::new(),
            acted_on: FxHashSet::default(),
        }
    }

    /// All nodes of `set`, and the destinations of its first `seen` events.
    pub fn of_dataset(set: &Dataset, seen: usize) -> Names {
        let mut names = Names::none(set.sides != Sides::OneMode);
        for node in (0..set.nodes as u32).map(NodeId) {
            names.add(set.sides.of(node).unwrap_or(Side::Source), set.ids.own(node));
        }
        set.log.dst()[..seen].iter().for_each(|&node| names.act_on(node));
        names
    }

    /// `own [N]`, `side [N]` (1 for a destination of a bipartite set, else 0), `destinations [M]`.
    pub fn to_store(&self) -> Store {
        let mut store = Store::default();
        store.put("own", [self.len()], self.own.clone());
        store.put("side", [self.len()], self.side.iter().map(|&side| u32::from(side == Side::Destination)).collect());
        store.put("destinations", [self.destinations.len()], self.destinations.iter().map(|node| node.0).collect());
        store
    }

    /// Reads what [`to_store`](Names::to_store) wrote.
    pub fn from_store(mut store: Store, bipartite: bool) -> Result<Names, StoreError> {
        let wrong = |name: &str, problem: String| StoreError::Array { name: name.into(), problem };
        let (_, own) = store.take::<u64>("own")?;
        let side = store.take_len::<u32>("side", own.len())?;
        let mut names = Names::none(bipartite);
        for (id, side) in own.into_iter().zip(side) {
            let side = if side == 1 { Side::Destination } else { Side::Source };
            if names.find(side, id).is_some() {
                return Err(wrong("own", format!("names the id {id} twice on one side")));
            }
            names.add(side, id);
        }
        let (_, destinations) = store.take::<u32>("destinations")?;
        if let Some(node) = destinations.iter().find(|&&node| node as usize >= names.len()) {
            return Err(wrong("destinations", format!("names node {node}, but there are {} nodes", names.len())));
        }
        destinations.into_iter().for_each(|node| names.act_on(NodeId(node)));
        Ok(names)
    }

    /// Nodes named.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether sources and destinations are separate name spaces.
    pub fn bipartite(&self) -> bool {
        self.bipartite
    }

    /// What a node of `side` is called in messages.
    pub fn what(&self, side: Side) -> &'static str {
        match (self.bipartite, side) {
            (false, _) => "node",
            (true, Side::Source) => "source",
            (true, Side::Destination) => "destination",
        }
    }

    /// The node under the user's `id`.
    pub fn find(&self, side: Side, id: u64) -> Option<NodeId> {
        self.node_of.get(&(self.space(side), id)).copied()
    }

    /// The node under the user's `id`, which is a new one if there is none yet.
    pub fn find_or_add(&mut self, side: Side, id: u64) -> NodeId {
        self.find(side, id).unwrap_or_else(|| self.add(side, id))
    }

    /// The user's id of `node`.
    pub fn own(&self, node: NodeId) -> u64 {
        self.own[node.index()]
    }

    /// Notes that `node` was the destination of an event.
    pub fn act_on(&mut self, node: NodeId) {
        if self.acted_on.insert(node) {
            self.destinations.push(node);
        }
    }

    /// Nodes that were the destination of an event so far, in the order they first were.
    pub fn destinations(&self) -> &[NodeId] {
        &self.destinations
    }

    /// Some source's id.
    pub fn any_source(&self) -> Option<u64> {
        self.side.iter().position(|&side| side == Side::Source).map(|at| self.own[at])
    }

    fn add(&mut self, side: Side, id: u64) -> NodeId {
        let (node, side) = (NodeId(self.own.len() as u32), self.space(side));
        self.own.push(id);
        self.side.push(side);
        self.node_of.insert((side, id), node);
        node
    }

    fn space(&self, side: Side) -> Side {
        if self.bipartite { side } else { Side::Source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_source_and_a_new_destination_of_one_id_are_two_nodes_of_a_bipartite_set() {
        for (bipartite, nodes) in [(true, 2), (false, 1)] {
            let mut names = Names::none(bipartite);
            let (src, dst) = (names.find_or_add(Side::Source, 7), names.find_or_add(Side::Destination, 7));
            assert_eq!((names.len(), src == dst), (nodes, !bipartite));
            assert_eq!((names.own(src), names.own(dst)), (7, 7));
            assert_eq!(names.find_or_add(Side::Destination, 7), dst);
        }
    }

    #[test]
    fn names_survive_the_store() {
        let mut names = Names::none(true);
        let dst = names.find_or_add(Side::Destination, 9);
        names.find_or_add(Side::Source, 9);
        names.act_on(dst);
        let back = Names::from_store(names.to_store(), true).unwrap();
        assert_eq!((back.find(Side::Destination, 9), back.find(Side::Source, 9)), (Some(NodeId(0)), Some(NodeId(1))));
        assert_eq!((back.destinations(), back.any_source()), ([dst].as_slice(), Some(9)));
    }
}
