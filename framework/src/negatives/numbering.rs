//! How files of the Temporal Graph Benchmark call the nodes of a set.
use crate::dataset::{Dataset, Side, Sides};
use crate::{EventLog, NodeId};

/// One of the ways in which a file may number the nodes of a set, the same in the whole file.
pub(super) struct Numbering<'a> {
    set: &'a Dataset,
    way: Way,
}

enum Way {
    /// By the user's own ids, sources and destinations each on their side.
    Own,
    /// Sources by their own ids, destinations by theirs plus the largest source and one. TGB's loader of `tgbl-wiki` does so.
    Behind(u64),
    /// By the order in which nodes appear in the log, the source of an event before its destination. TGB's other loaders do so.
    Appearance { numbers: Vec<u32>, nodes: Vec<NodeId> },
    /// By the numbers of the prepared set.
    Dense,
}

impl<'a> Numbering<'a> {
    /// All ways that go with a set; `whole` is its log as it was prepared.
    pub(super) fn all(set: &'a Dataset, whole: &EventLog) -> impl Iterator<Item = Numbering<'a>> {
        let own = (!set.ids.is_text()).then_some([Way::Own, Way::Behind(behind(set, whole))]);
        let ways = own.into_iter().flatten().chain([by_appearance(set, whole), Way::Dense]);
        ways.map(|way| Numbering { set, way })
    }

    /// What a file calls a node.
    pub(super) fn number(&self, side: Side, node: NodeId) -> Option<i64> {
        let own = || self.set.ids.external_id(node);
        let number = match &self.way {
            Way::Own => own(),
            Way::Behind(most) if side == Side::Destination => own().checked_add(*most)?,
            Way::Behind(_) => own(),
            Way::Appearance { numbers, .. } => u64::from(*numbers.get(node.index())?),
            Way::Dense => node.0.into(),
        };
        i64::try_from(number).ok()
    }

    /// The node that a file calls so.
    pub(super) fn node(&self, side: Side, number: i64) -> Option<NodeId> {
        let number = u64::try_from(number).ok()?;
        let own = |id| self.set.ids.node(side, id).ok();
        match &self.way {
            Way::Own => own(number),
            Way::Behind(most) if side == Side::Destination => own(number.checked_sub(*most)?),
            Way::Behind(_) => own(number),
            Way::Appearance { nodes, .. } => nodes.get(usize::try_from(number).ok()?).copied(),
            Way::Dense => {
                let node = u32::try_from(number).ok().map(NodeId).filter(|node| node.index() < self.set.nodes)?;
                self.set.sides.of(node).is_none_or(|of| of == side).then_some(node)
            }
        }
    }
}

/// The largest own id of a source, and one.
fn behind(set: &Dataset, whole: &EventLog) -> u64 {
    let own = set.ids.external_ids();
    let most = match set.sides {
        Sides::Bipartite { sources } => own[..sources].iter().max().copied(),
        Sides::OneMode => whole.src().iter().map(|node| own[node.index()]).max(),
    };
    most.map_or(0, |most| most.saturating_add(1))
}

fn by_appearance(set: &Dataset, whole: &EventLog) -> Way {
    let (mut numbers, mut nodes) = (vec![u32::MAX; set.nodes], Vec::new());
    for &node in whole.src().iter().zip(whole.dst()).flat_map(|(src, dst)| [src, dst]) {
        if numbers[node.index()] == u32::MAX {
            numbers[node.index()] = nodes.len() as u32;
            nodes.push(node);
        }
    }
    Way::Appearance { numbers, nodes }
}
