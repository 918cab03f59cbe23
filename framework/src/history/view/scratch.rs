//! Buffers that a view keeps from one refill to the next, so that refilling it allocates no new memory.

use rustc_hash::FxHashMap;

use crate::history::view::node_positions::{NodePositions, NodeSet};
use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::history::view::window::WindowPart;
use crate::{Batch, NodeId};

/// Buffers that a view keeps from one refill to the next.
#[derive(Default)]
pub(crate) struct ViewScratch {
    pub present: PendingIndex,
    /// One for each hop.
    pub centres: Vec<Centres>,
    pub named: NodeSet,
    /// The position of each node in the view's.
    pub rows: NodePositions,
    /// `[C, K]` the times of the events that the current hop shows.
    pub times: Vec<i64>,
    /// The window parts that tasks fill.
    pub parts: Vec<WindowPart>,
    /// The reads of prefetched memories that are still to be done.
    pub pending: DeferredReads,
    pub walked: WalkScratch,
}

impl std::fmt::Debug for ViewScratch {
    /// Prints nothing of it: it is no part of what a view shows.
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
    /// Forgets all centres; holds node numbers below `nodes`.
    pub fn clear(&mut self, nodes: usize) {
        self.nodes.clear();
        self.moments.clear();
        self.first.make_room(nodes);
        self.others.clear();
    }

    /// The row of a centre; appends the centre if it is new.
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

/// Nodes that a pending batch will write, and what a view that was read before that still lacks of them.
#[derive(Debug, Default)]
pub(crate) struct DeferredReads {
    pub nodes: Vec<NodeId>,
    pub places: NodePositions,
    /// Rows of the view that are still to be read, and their positions among its updated rows.
    pub late: Vec<[u32; 2]>,
    /// Rows of the view, and which mail of each, where several are shown.
    pub mails: Vec<[u32; 2]>,
}

impl DeferredReads {
    /// The ends of `batch` and the `receivers` of its mail, or none, among `held` nodes.
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

/// Buffers for rows of walks, kept from one view to the next.
#[derive(Debug, Default)]
pub(crate) struct WalkScratch {
    /// `[pending links]` the position among the rows of the link owner's row after the link; `u32::MAX` if it is not
    /// needed.
    pub place: Vec<u32>,
    /// The links after which a row is needed, each with its owner.
    pub needed: Vec<(u32, NodeId)>,
    /// `[needed, L d]`: rows 1 to `L` of the owner after the link, as of the link's time.
    pub rows: Vec<f32>,
}
