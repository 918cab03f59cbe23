//! Small sets of nodes out of many, kept without hashing and without clearing.

use crate::NodeId;

/// The position of each of a few nodes in a list.
///
/// A position counts only if the list has the node there. Stale entries of earlier lists therefore do no harm, and
/// nothing is ever cleared.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodePositions {
    /// `[N]`.
    place: Vec<u32>,
}

impl NodePositions {
    /// Grows the table to hold node numbers below `nodes`.
    pub fn make_room(&mut self, nodes: usize) {
        if self.place.len() < nodes {
            // Not resized: no entry has to survive, and fresh zeros cost nothing until they are touched. Twice the
            // size, since nodes may come one at a time.
            self.place = vec![0; nodes.next_power_of_two()];
        }
    }

    /// Stores that `node` is at `place`. Ignores a node that the table does not hold.
    pub fn note(&mut self, node: NodeId, place: usize) {
        if let Some(slot) = self.place.get_mut(node.index()) {
            *slot = place as u32;
        }
    }

    /// Stores the positions of all nodes in `list`.
    pub fn note_all(&mut self, list: &[NodeId]) {
        list.iter().enumerate().for_each(|(place, &node)| self.note(node, place));
    }

    /// The position of `node` in `list`, whose nodes were stored.
    pub fn of(&self, node: NodeId, list: &[NodeId]) -> Option<usize> {
        let place = *self.place.get(node.index())? as usize;
        (list.get(place) == Some(&node)).then_some(place)
    }
}

/// A set of nodes that is drained in ascending order.
///
/// It has one bit for each node, and one bit for each word of these. Draining therefore takes time in proportion to
/// the nodes in it, and almost none for the capacity.
#[derive(Debug, Default)]
pub(crate) struct NodeSet {
    /// `[N / 64]`.
    words: Vec<u64>,
    /// `[N / 64²]`: which words are not zero.
    filled: Vec<u64>,
}

impl NodeSet {
    /// Grows the set to hold node numbers below `nodes`; the set must be empty.
    pub fn make_room(&mut self, nodes: usize) {
        if self.words.len() * 64 < nodes {
            self.words = vec![0; nodes.div_ceil(64).next_power_of_two()];
            self.filled = vec![0; self.words.len().div_ceil(64)];
        }
    }

    /// Adds `node`.
    ///
    /// # Panics
    /// If the set cannot hold it.
    pub fn insert(&mut self, node: NodeId) {
        let word = node.index() / 64;
        self.words[word] |= 1 << (node.0 % 64);
        self.filled[word / 64] |= 1 << (word % 64);
    }

    /// Moves all nodes to `list`, ascending.
    pub fn drain_to(&mut self, list: &mut Vec<NodeId>) {
        list.clear();
        for (at, filled) in self.filled.iter_mut().enumerate() {
            for word in ones(std::mem::take(filled)).map(|bit| at * 64 + bit) {
                let bits = std::mem::take(&mut self.words[word]);
                list.extend(ones(bits).map(|bit| NodeId((word * 64 + bit) as u32)));
            }
        }
    }
}

/// The positions of the ones in `bits`, ascending.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_of_nodes_gives_each_once_in_order_and_is_then_empty(rounds in prop::collection::vec(prop::collection::vec(0u32..20_000, 0..50), 1..4)) {
            let mut set = NodeSet::default();
            set.make_room(20_000);
            let mut found = Vec::new();
            for mut nodes in rounds {
                nodes.iter().for_each(|&node| set.insert(NodeId(node)));
                set.drain_to(&mut found);
                nodes.sort_unstable();
                nodes.dedup();
                prop_assert_eq!(&found, &nodes.into_iter().map(NodeId).collect::<Vec<_>>());
            }
        }

        #[test]
        fn places_are_those_in_the_list_at_hand_whatever_was_noted_before(lists in prop::collection::vec(prop::collection::vec(0u32..12, 0..8), 1..5)) {
            let mut places = NodePositions::default();
            places.make_room(8);
            for list in lists {
                let list: Vec<NodeId> = list.into_iter().map(NodeId).collect();
                places.note_all(&list);
                for node in (0..12).map(NodeId) {
                    let expected = list.iter().rposition(|&listed| listed == node).filter(|_| node.0 < 8);
                    prop_assert_eq!(places.of(node, &list), expected);
                }
            }
        }
    }
}
