//! The user's own ids of the nodes.

use std::ops::Range;

use rustc_hash::{FxHashMap, FxHashSet};
use tempograph_framework::{Dataset, NodeId, PartitionedMap, Side, Sides, Store, StoreError};

use crate::request::id::ExternalId;

/// Maps the user's ids to nodes, and lists the nodes that were a destination so far.
///
/// In a bipartite set, user 7 and item 7 are two nodes. New nodes get the next free number on either side.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    bipartite: bool,
    /// Whether ids are text.
    text: bool,
    /// `[N]`, all of one form.
    own: Vec<ExternalId>,
    /// `[N]`; in a one-mode set all nodes are sources.
    side: Vec<Side>,
    node_of: PartitionedMap<(Side, ExternalId), NodeId>,
    /// Nodes that were the destination of an event so far, in order of their first event as destination. The last one
    /// moves to the index of an expired one. Capacity is reserved for all nodes.
    destinations: Vec<NodeId>,
    /// `[N]` the index of each node in `destinations` plus one; 0 for a node that is no destination.
    place: Vec<u32>,
    /// Expired nodes whose numbers may be used again; the last is used first.
    free: Vec<NodeId>,
}

impl Names {
    fn none(bipartite: bool, text: bool) -> Names {
        Names {
            bipartite,
            text,
            own: Vec::new(),
            side: Vec::new(),
            node_of: PartitionedMap::default(),
            destinations: Vec::new(),
            place: Vec::new(),
            free: Vec::new(),
        }
    }

    /// All nodes of `set`, and the destinations of its first `seen` events.
    pub fn of_dataset(set: &Dataset, seen: usize) -> Names {
        let mut names = Names::none(set.sides != Sides::OneMode, set.ids.is_text());
        for node in (0..set.nodes as u32).map(NodeId) {
            names.add(set.sides.of(node).unwrap_or(Side::Source), ExternalId::of(&set.ids, node));
        }
        set.log.dst()[..seen].iter().for_each(|&node| names.mark_destination(node));
        names
    }

    /// `own [N]`, or for ids that are text `own.length [N]` and their bytes `own.text`; `side [N]` (1 for a destination of a bipartite set, else 0), `destinations [M]`.
    pub fn to_store(&self) -> Store {
        let mut store = self.nodes_to_store(0..self.len());
        store.merge("", self.destinations_to_store(0..self.destinations.len()));
        if !self.free.is_empty() {
            store.merge("", self.free_to_store(0..self.free.len()));
        }
        store
    }

    /// The part of [`to_store`](Names::to_store) that is by node.
    pub fn nodes_to_store(&self, nodes: Range<usize>) -> Store {
        let mut store = Store::default();
        let own = &self.own[nodes.clone()];
        if self.text {
            let text: Vec<&str> = own.iter().map(|id| if let ExternalId::Text(id) = id { &**id } else { "" }).collect();
            let bytes: Vec<u8> = text.iter().flat_map(|id| id.bytes()).collect();
            store.put("own.length", [nodes.len()], text.iter().map(|id| id.len() as u32).collect());
            store.put("own.text", [bytes.len()], bytes);
        } else {
            store.put("own", [nodes.len()], own.iter().filter_map(ExternalId::number).collect());
        }
        store.put(
            "side",
            [nodes.len()],
            self.side[nodes].iter().map(|&side| u32::from(side == Side::Destination)).collect(),
        );
        store
    }

    /// The part of [`to_store`](Names::to_store) with destinations, by index.
    pub fn destinations_to_store(&self, places: Range<usize>) -> Store {
        numbers("destinations", &self.destinations[places])
    }

    /// The part of [`to_store`](Names::to_store) with free nodes, by index.
    pub fn free_to_store(&self, places: Range<usize>) -> Store {
        numbers("free", &self.free[places])
    }

    /// Reads the output of [`to_store`](Names::to_store).
    pub fn from_store(mut store: Store, bipartite: bool) -> Result<Names, StoreError> {
        let wrong = |name: &str, problem: String| StoreError::Array { name: name.into(), problem };
        let text = store.get::<u32>("own.length").is_some();
        let own: Vec<ExternalId> = match text {
            true => text_ids(&mut store)?,
            false => store.take::<u64>("own")?.1.into_iter().map(ExternalId::Number).collect(),
        };
        let side = store.take_len::<u32>("side", own.len())?;
        let mut names = Names::none(bipartite, text);
        let free = if store.get::<u32>("free").is_some() { store.take::<u32>("free")?.1 } else { Vec::new() };
        let unnamed: FxHashSet<u32> = free.iter().copied().collect();
        for (node, (id, side)) in own.into_iter().zip(side).enumerate() {
            let side = if side == 1 { Side::Destination } else { Side::Source };
            if unnamed.contains(&(node as u32)) {
                names.place(NodeId(node as u32), side, id);
                continue;
            }
            if names.find(side, &id).is_some() {
                return Err(wrong("own", format!("names the id {id} twice on one side")));
            }
            names.add(side, id);
        }
        if let Some(node) = free.iter().find(|&&node| node as usize >= names.len()) {
            return Err(wrong("free", format!("names node {node}, but there are {} nodes", names.len())));
        }
        names.free = free.into_iter().map(NodeId).collect();
        let (_, destinations) = store.take::<u32>("destinations")?;
        if let Some(node) = destinations.iter().find(|&&node| node as usize >= names.len()) {
            return Err(wrong("destinations", format!("names node {node}, but there are {} nodes", names.len())));
        }
        destinations.into_iter().for_each(|node| names.mark_destination(NodeId(node)));
        Ok(names)
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.own.len()
    }

    /// Whether ids are text.
    pub fn text(&self) -> bool {
        self.text
    }

    /// Whether sources and destinations are separate name spaces.
    pub fn bipartite(&self) -> bool {
        self.bipartite
    }

    /// The word for a node of `side` in messages.
    pub fn what(&self, side: Side) -> &'static str {
        match (self.bipartite, side) {
            (false, _) => "node",
            (true, Side::Source) => "source",
            (true, Side::Destination) => "destination",
        }
    }

    /// The node with the user's `id`.
    pub fn find(&self, side: Side, id: &ExternalId) -> Option<NodeId> {
        self.node_of.get(&(self.space(side), id.in_form(self.text)?)).copied()
    }

    /// An id in the form of the set, as far as it has one.
    pub fn shown(&self, id: &ExternalId) -> ExternalId {
        id.in_form(self.text).unwrap_or_else(|| id.clone())
    }

    /// The user's id of `node`.
    pub fn own(&self, node: NodeId) -> ExternalId {
        self.own[node.index()].clone()
    }

    /// The side `node` is on; all are sources in a one-mode set.
    pub fn side(&self, node: NodeId) -> Side {
        self.side[node.index()]
    }

    /// Adds `node` to the destinations.
    pub fn mark_destination(&mut self, node: NodeId) {
        let place = &mut self.place[node.index()];
        if *place == 0 {
            self.destinations.push(node);
            *place = self.destinations.len() as u32;
        }
    }

    /// Nodes that were the destination of an event so far.
    pub fn destinations(&self) -> &[NodeId] {
        &self.destinations
    }

    /// Some of the destinations, by index, with the users' ids.
    pub fn destinations_at(&self, places: Range<usize>) -> Vec<(NodeId, ExternalId)> {
        self.destinations[places].iter().map(|&node| (node, self.own(node))).collect()
    }

    /// Expired nodes whose numbers may be used again.
    pub fn free(&self) -> &[NodeId] {
        &self.free
    }

    /// Indices in the destinations that change when `nodes` are expired.
    pub fn destinations_moved_by_forgetting(&self, nodes: &[NodeId]) -> impl Iterator<Item = usize> {
        let given_up: Vec<usize> = nodes.iter().filter_map(|&node| self.place_of(node)).collect();
        let (end, count) = (self.destinations.len(), given_up.len());
        given_up.into_iter().chain(end - count..end)
    }

    fn place_of(&self, node: NodeId) -> Option<usize> {
        self.place.get(node.index())?.checked_sub(1).map(|place| place as usize)
    }

    /// The id of a source.
    pub fn any_source(&self) -> Option<ExternalId> {
        self.side.iter().position(|&side| side == Side::Source).map(|at| self.own[at].clone())
    }

    /// Removes nodes from the destinations until an event has them as destination again. With `reusable`, removes their
    /// ids as well, and their numbers may be used again.
    pub fn forget(&mut self, nodes: &[NodeId], reusable: bool) {
        for &node in nodes {
            if let Some(place) = self.place_of(node) {
                self.place[node.index()] = 0;
                self.destinations.swap_remove(place);
                if let Some(moved) = self.destinations.get(place) {
                    self.place[moved.index()] = place as u32 + 1;
                }
            }
            if reusable {
                let (side, id) = (self.side[node.index()], self.own(node));
                self.node_of.remove(&(side, id));
                self.free.push(node);
            }
        }
    }

    /// The number of the node that will be added after `ahead` others.
    fn next(&self, ahead: usize) -> NodeId {
        match self.free.len().checked_sub(ahead + 1) {
            Some(at) => self.free[at],
            None => NodeId((self.own.len() + ahead - self.free.len()) as u32),
        }
    }

    /// Sets id and side of `node`, which is an existing node or the next new one.
    fn place(&mut self, node: NodeId, side: Side, id: ExternalId) {
        if node.index() == self.own.len() {
            self.own.push(id);
            self.side.push(side);
            self.place.push(0);
            self.destinations.reserve(self.own.len() - self.destinations.len());
        } else {
            (self.own[node.index()], self.side[node.index()]) = (id, side);
        }
    }

    /// Adds the next node and returns it.
    pub fn add(&mut self, side: Side, id: ExternalId) -> NodeId {
        let (node, side) = (self.next(0), self.space(side));
        self.free.pop();
        self.place(node, side, id.clone());
        self.node_of.insert((side, id), node);
        node
    }

    /// The side in whose name space an id of `side` is.
    pub fn space(&self, side: Side) -> Side {
        if self.bipartite { side } else { Side::Source }
    }
}

/// Ids that are text, from their lengths and bytes.
fn text_ids(store: &mut Store) -> Result<Vec<ExternalId>, StoreError> {
    let wrong = |problem: String| StoreError::Array { name: "own.text".into(), problem };
    let (_, lengths) = store.take::<u32>("own.length")?;
    let (_, bytes) = store.take::<u8>("own.text")?;
    let mut rest = std::str::from_utf8(&bytes).map_err(|error| wrong(format!("is not UTF-8: {error}")))?;
    let mut ids = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (id, after) = rest
            .split_at_checked(length as usize)
            .ok_or_else(|| wrong(format!("has {} bytes, which do not fit the lengths of the ids", bytes.len())))?;
        ids.push(id.into());
        rest = after;
    }
    match rest.len() {
        0 => Ok(ids),
        more => Err(wrong(format!("has {more} bytes after the last id"))),
    }
}

fn numbers(name: &str, nodes: &[NodeId]) -> Store {
    let mut store = Store::default();
    store.put(name, [nodes.len()], nodes.iter().map(|node| node.0).collect());
    store
}

/// New ids of a request, with the numbers that their nodes will have.
///
/// A node is named when its first event is applied, and not before. So a read knows no id that is newer than its
/// position.
#[derive(Debug, Default)]
pub(crate) struct NewNodes {
    /// Number of nodes that the history needs to hold them.
    room: usize,
    /// The event that first names each id, and the id, in order of the nodes' numbers.
    ids: Vec<(u64, Side, ExternalId)>,
    node_of: FxHashMap<(Side, ExternalId), NodeId>,
    /// How many of them are named.
    named: usize,
}

impl NewNodes {
    /// Removes all ids.
    pub fn clear(&mut self) {
        self.room = 0;
        self.ids.clear();
        self.node_of.clear();
        self.named = 0;
    }

    /// The number of an id that `event` names and that is not in `names`.
    pub fn number(&mut self, names: &Names, event: u64, side: Side, id: &ExternalId) -> NodeId {
        let next = names.next(self.ids.len());
        let id = id.in_form(names.text).unwrap_or_else(|| unreachable!("ids of events are checked"));
        let node = *self.node_of.entry((names.space(side), id.clone())).or_insert(next);
        if node == next {
            self.ids.push((event, side, id));
            self.room = self.room.max(node.index() + 1);
        }
        node
    }

    /// Number of nodes that the history must have room for, if there are new nodes.
    pub fn room(&self) -> Option<usize> {
        (self.room > 0).then_some(self.room)
    }

    /// How many ids are not named yet and first named by an event before `end`.
    pub fn count_until(&self, end: u64) -> usize {
        self.ids[self.named..].partition_point(|&(event, ..)| event < end)
    }

    /// The ids that are not named yet and first named by an event before `end`, in order of their numbers. They count
    /// as named then.
    pub fn until(&mut self, end: u64) -> impl Iterator<Item = (Side, ExternalId)> {
        let count = self.count_until(end);
        let waiting = &self.ids[self.named..];
        self.named += count;
        waiting[..count].iter().map(|(_, side, id)| (*side, id.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_source_and_a_new_destination_of_one_id_are_two_nodes_of_a_bipartite_set() {
        for (bipartite, nodes) in [(true, 2), (false, 1)] {
            let mut names = Names::none(bipartite, false);
            let mut new_nodes = NewNodes::default();
            let [src, dst] = [Side::Source, Side::Destination].map(|side| new_nodes.number(&names, 3, side, &7.into()));
            assert_eq!((new_nodes.room(), src == dst), (Some(nodes), !bipartite));
            assert_eq!(new_nodes.until(3).count(), 0, "their event has not happened");
            for (side, id) in new_nodes.until(4) {
                names.add(side, id);
            }
            assert_eq!((names.len(), names.own(src), names.own(dst)), (nodes, 7.into(), 7.into()));
            assert_eq!(
                [Side::Source, Side::Destination].map(|side| names.find(side, &7.into())),
                [Some(src), Some(dst)]
            );
        }
    }

    #[test]
    fn a_destination_that_is_forgotten_leaves_the_others_findable_in_their_places() {
        let mut names = Names::none(false, false);
        let nodes: Vec<NodeId> = (0..6u64).map(|id| names.add(Side::Source, id.into())).collect();
        nodes.iter().for_each(|&node| names.mark_destination(node));
        let gone = [nodes[1], nodes[5], nodes[0]];
        let touched: Vec<usize> = names.destinations_moved_by_forgetting(&gone).collect();
        let before = names.destinations().to_vec();
        names.forget(&gone, true);
        let still: FxHashSet<NodeId> = names.destinations().iter().copied().collect();
        assert_eq!(still, FxHashSet::from_iter([nodes[2], nodes[3], nodes[4]]));
        for (place, node) in before.iter().enumerate().filter(|(place, _)| !touched.contains(place)) {
            assert_eq!(names.destinations().get(place), Some(node), "place {place} was not to change");
        }
        names.mark_destination(nodes[3]);
        assert_eq!(names.destinations().len(), 3, "it is among them already");
    }

    #[test]
    fn names_survive_the_store() {
        let mut names = Names::none(true, false);
        let dst = names.add(Side::Destination, 9.into());
        names.add(Side::Source, 9.into());
        names.mark_destination(dst);
        let back = Names::from_store(names.to_store(), true).unwrap();
        assert_eq!(
            (back.find(Side::Destination, &9.into()), back.find(Side::Source, &9.into())),
            (Some(NodeId(0)), Some(NodeId(1)))
        );
        assert_eq!((back.destinations(), back.any_source()), ([dst].as_slice(), Some(9.into())));
    }

    #[test]
    fn names_that_are_text_survive_the_store_in_parts() {
        let mut names = Names::none(true, true);
        for (side, id) in
            [(Side::Source, "ada"), (Side::Destination, "ada"), (Side::Source, "żółć"), (Side::Source, "7")]
        {
            names.add(side, id.into());
        }
        let back = Names::from_store(names.to_store(), true).unwrap();
        let find = |side, id: &str| back.find(side, &id.into());
        assert_eq!((find(Side::Source, "ada"), find(Side::Destination, "ada")), (Some(NodeId(0)), Some(NodeId(1))));
        assert_eq!((find(Side::Source, "żółć"), find(Side::Source, "zolc")), (Some(NodeId(2)), None));
        assert_eq!(
            back.find(Side::Source, &ExternalId::from(7)),
            Some(NodeId(3)),
            "a number is the text that it is written as"
        );
        assert_eq!(back.own(NodeId(2)), ExternalId::from("żółć"));
        let mut short = names.to_store();
        short.put("own.length", [4], vec![3u32, 3, 8, 0]);
        assert!(Names::from_store(short, true).unwrap_err().to_string().contains("after the last id"));
    }
}
