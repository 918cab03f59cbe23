//! Dense node numbers and the user's own ids.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::NodeId;
use crate::dataset::{Side, Sides};
use crate::storage::column::Column;

/// The mapping between dense [`NodeId`]s and the user's own ids.
///
/// In a bipartite set sources and destinations are separate name spaces: user 7 and item 7 are two nodes.
///
/// Ids are whole numbers or text. Where they are text, the number of a node is its own id for all that speaks numbers, and
/// [`name`](Self::name) and [`find`](Self::find) speak the text.
#[derive(Clone, Debug)]
pub struct IdMap {
    own: Column<u64>,
    sides: Sides,
    order: Arc<OnceLock<Order>>,
    text: Option<TextIds>,
}

/// Ids that are text, back to back.
#[derive(Clone, Debug)]
pub(crate) struct TextIds {
    pub(crate) bytes: Column<u8>,
    /// `[nodes]` where each ends.
    pub(crate) ends: Column<u64>,
}

impl TextIds {
    fn get(&self, node: usize) -> &str {
        let start = if node == 0 { 0 } else { self.ends[node - 1] as usize };
        // Checked when the ids were opened.
        std::str::from_utf8(&self.bytes[start..self.ends[node] as usize]).unwrap_or("")
    }

    /// The first contradiction, if these are not the ids of the nodes of `sides`, ascending within each.
    fn check(&self, ranges: &[Range<usize>]) -> Result<(), String> {
        let mut ends = self.ends.iter().map(|&end| usize::try_from(end).unwrap_or(usize::MAX));
        if !self.ends.is_sorted() || ends.next_back().unwrap_or(0) != self.bytes.len() {
            return Err("the ends of the ids that are text are not in order".into());
        }
        let Ok(all) = std::str::from_utf8(&self.bytes) else { return Err("an id is not UTF-8".into()) };
        if let Some(node) = self.ends.iter().position(|&end| !all.is_char_boundary(end as usize)) {
            return Err(format!("the id of node {node} is not UTF-8"));
        }
        for range in ranges {
            if let Some(node) = range.clone().skip(1).find(|&node| self.get(node - 1) >= self.get(node)) {
                return Err(format!("the id `{}` of node {node} is not after the one before it", self.get(node)));
            }
        }
        Ok(())
    }
}

/// A text id that no event of the dataset names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no {what} has the id `{id}`")]
pub struct UnknownName {
    what: &'static str,
    /// The queried id.
    pub id: String,
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
        Self { own, sides, order: Arc::default(), text: None }
    }

    /// A mapping from the text that is each node's id, `[nodes]`; ids are distinct and ascend within a side.
    ///
    /// # Errors
    /// The first id that does not.
    pub fn of_text<T: AsRef<str>>(ids: &[T], sides: Sides) -> Result<Self, String> {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.as_ref().bytes()).collect();
        let mut end = 0;
        let ends: Vec<u64> = ids
            .iter()
            .map(|id| {
                end += id.as_ref().len() as u64;
                end
            })
            .collect();
        Self::identity(ids.len(), sides).with_text(TextIds { bytes: bytes.into(), ends: ends.into() })
    }

    /// The same nodes with ids that are text.
    pub(crate) fn with_text(mut self, text: TextIds) -> Result<Self, String> {
        if text.ends.len() != self.len() {
            return Err(format!("{} ids that are text for {} nodes", text.ends.len(), self.len()));
        }
        let ranges = match self.sides {
            Sides::OneMode => std::iter::once(0..self.len()).collect(),
            Sides::Bipartite { sources } if sources > self.len() => {
                return Err(format!("{sources} sources of {} nodes", self.len()));
            }
            Sides::Bipartite { sources } => vec![0..sources, sources..self.len()],
        };
        text.check(&ranges)?;
        self.text = Some(text);
        Ok(self)
    }

    /// The ids that are text, where they are.
    pub(crate) fn text(&self) -> Option<&TextIds> {
        self.text.as_ref()
    }

    /// Whether ids are text and not numbers.
    pub fn is_text(&self) -> bool {
        self.text.is_some()
    }

    /// The id of a node as the user writes it. Panics on a node that is not in the set.
    pub fn name(&self, node: NodeId) -> Cow<'_, str> {
        match &self.text {
            Some(text) => Cow::Borrowed(text.get(node.index())),
            None => Cow::Owned(self.own[node.index()].to_string()),
        }
    }

    /// The node of one side under the id as the user writes it; in a one-mode set both sides are the same.
    ///
    /// # Errors
    /// An id that no event names.
    pub fn find(&self, side: Side, id: &str) -> Result<NodeId, UnknownName> {
        let unknown = || UnknownName { what: self.what(side), id: id.to_owned() };
        let Some(text) = &self.text else {
            return id.parse().ok().and_then(|id| self.node(side, id).ok()).ok_or_else(unknown);
        };
        let (mut low, mut high) = (self.range(side).start, self.range(side).end);
        while low < high {
            let middle = low + (high - low) / 2;
            match text.get(middle).cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(NodeId(middle as u32)),
            }
        }
        Err(unknown())
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
    fn text_ids_are_found_on_their_side_and_written_back() {
        let ids = IdMap::of_text(&["ann", "bob", "ann", "zoë"], Sides::Bipartite { sources: 2 }).unwrap();
        assert_eq!((ids.find(Side::Source, "ann"), ids.find(Side::Destination, "ann")), (Ok(NodeId(0)), Ok(NodeId(2))));
        assert_eq!((ids.name(NodeId(3)).as_ref(), ids.is_text()), ("zoë", true));
        assert_eq!(ids.find(Side::Source, "zoë").unwrap_err().to_string(), "no source has the id `zoë`");
        let numbers = IdMap::new(vec![7, 9], Sides::OneMode);
        assert_eq!((numbers.find(Side::Source, "9"), numbers.name(NodeId(1)).as_ref()), (Ok(NodeId(1)), "9"));
        assert!(IdMap::of_text(&["b", "a"], Sides::OneMode).unwrap_err().contains("`a` of node 1"));
        assert!(IdMap::of_text(&["a", "a"], Sides::OneMode).is_err(), "one id is one node");
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
