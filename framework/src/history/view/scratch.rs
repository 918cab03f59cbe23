//! What a view keeps from one filling to the next, so that filling it again needs no new memory.

use rustc_hash::FxHashMap;

use crate::history::view::node_positions::{NodePositions, NodeSet};
use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::history::view::window::WindowPart;
use crate::{Batch, NodeId};

/// What a view keeps from one filling to the next.
#[derive(Default)]
pub(crate) struct ViewScratch {
    pub present: PendingIndex,
    /// One for each hop.
    pub centres: Vec<Centres>,
    pub named: NodeSet,
    /// Where each node stands in the view's.
    pub rows: NodePositions,
    /// `[C, K]` when the events were that the hop at hand shows.
    pub times: Vec<i64>,
    /// What tasks find at the second look.
    pub parts: Vec<WindowPart>,
    /// What is still to be read of memories read ahead.
    pub pending: DeferredReads,
    pub walked: WalkScratch,
}

impl std::fmt::Debug for ViewScratch {
    /// No part of what a view shows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ViewScratch")
    }
}

/// Nodes at moments whose neighbours are looked up, each once.
#[derive(Default)]
pub(crate) struct Centres {
    /// `[C]`.
    pub nodes: Vec<NodeId>,
    /// `[C]`.
    pub moments: Vec<Moment>,
    /// The first row of each node: most nodes are queried at one moment only.
    first: NodePositions,
    /// The rows of a node's other moments.
    others: FxHashMap<(NodeId, Moment), u32>,
}

impl Centres {
    /// Forgets all centres; nodes below `nodes` have room.
    pub fn clear(&mut self, nodes: usize) {
        self.nodes.clear();
        self.moments.clear();
        self.first.make_room(nodes);
        self.others.clear();
    }

    /// The row of a centre, which is a new one if it was not there.
    pub fn row(&mut self, node: NodeId, moment: Moment) -> u32 {
        let new = self.nodes.len() as u32;
        let row = match self.first.of(node, &self.nodes) {
            None => {
                self.first.note(node, new as usize);
                new
            }
            Some(row) if self.moments[row] == moment => row as u32,
            Some(_) => *self.others.entry((node, moment)).or_insert(new),
        };
        if row == new {
            self.nodes.push(node);
            self.moments.push(moment);
        }
        row
    }
}

/// Nodes that a batch not yet observed will write, and what a view that was read before that lacks of them.
#[derive(Debug, Default)]
pub(crate) struct DeferredReads {
    pub nodes: Vec<NodeId>,
    pub places: NodePositions,
    /// Rows of the view, and their places among its updated rows, that are still to be read.
    pub late: Vec<[u32; 2]>,
    /// Rows of the view, and which mail of each, where several are shown.
    pub mails: Vec<[u32; 2]>,
}

impl DeferredReads {
    /// Those of `batch` and the `receivers` of its mail, or none, among `held` nodes.
    pub fn refill(&mut self, batch: Option<(&Batch<'_>, &[NodeId])>, held: usize) {
        self.nodes.clear();
        self.nodes.extend(batch.into_iter().flat_map(|(batch, to)| batch.src.iter().chain(batch.dst).chain(to)));
        self.places.make_room(held);
        self.places.note_all(&self.nodes);
        self.late.clear();
    }

    pub fn has(&self, node: NodeId) -> bool {
        !self.nodes.is_empty() && self.places.of(node, &self.nodes).is_some()
    }
}

/// What showing rows of walks keeps from one view to the next.
#[derive(Debug, Default)]
pub(crate) struct WalkScratch {
    /// `[unsettled links]` where the row of the link's owner after the link stands among the rows; `u32::MAX` if it is not needed.
    pub place: Vec<u32>,
    /// The links after which a row is needed, each with its owner.
    pub needed: Vec<(u32, NodeId)>,
    /// `[needed, L d]`: rows 1 to `L` of the owner after the link, as of the link's time.
    pub rows: Vec<f32>,
}
