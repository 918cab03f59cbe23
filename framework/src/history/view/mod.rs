//! What a model sees of the past.
pub(crate) mod needs;
pub(crate) mod node_positions;
pub(crate) mod pair_fact;
pub(crate) mod pending_index;
pub(crate) mod queries;
pub(crate) mod scratch;
pub(crate) mod update;
pub(crate) mod window;

use std::sync::Arc;

use tempograph_kernels::{MailPlan, Neighbours, PairPlan, Rows};

use crate::history::view::scratch::ViewScratch;
use crate::history::view::window::Window;
use crate::{NodeId, PairFact, Queries, Timestamp};

/// The past of some roots, strictly before each root's time. Reading it changes nothing.
///
/// The roots and their neighbours name `U` distinct nodes; each is read once and referred to by row afterwards.
/// Refilling an existing view ([`History::view_into`](crate::History::view_into)) allocates no new memory.
#[derive(Debug, Default)]
pub struct View {
    /// Graph version its neighbours come from: `history.version() - view.version` batches were observed since.
    pub version: u64,
    /// Version its memories come from, in batches.
    pub memory_version: u64,
    /// The earliest time of its roots and of the current batch: it shows no memory that an event of this time, or a
    /// later one, has changed in the newest tick.
    pub before: Timestamp,
    /// The distinct nodes, `[U]`, ascending.
    pub nodes: Vec<NodeId>,
    /// Stored memory and waiting mail of the distinct nodes.
    pub mail: MailView,
    /// One for each layer, the roots' own first. The last hop's rows refer to `nodes`; an earlier hop's rows refer to
    /// the centres of the hop after it.
    pub hops: Vec<Hop>,
    /// The row of each root in the top table, `[R]`: a centre of the first hop, or without hops a row of `nodes`.
    /// Roots that see the same past share a row.
    pub roots: Vec<u32>,
    /// The event window of the first hop's centres, if the model needs one.
    pub window: Window,
    /// Facts about each queried pair, `[P]`, if the model needs them.
    pub pairs: Vec<PairFact>,
    /// Rows of temporal walks of each root at its own moment, `[R, (L + 1) d]`, if the model needs them: row 0, which
    /// is constant for the node, then rows 1 to `L` ([`WalkRule`](crate::WalkRule)). Rows that are no longer known are
    /// zeros: those of a node that has had an event since, where the moment lies in the settled past.
    pub walks: Vec<f32>,
    /// Edge features by event id, where the log has any.
    pub edge_features: Option<Arc<dyn Rows>>,
    /// Node features by node, where the set has any.
    pub node_features: Option<Arc<dyn Rows>>,
    /// Static memory by node, where the model reads any.
    pub static_memory: Option<Arc<dyn Rows>>,
    pub(crate) work: ViewScratch,
}

impl View {
    /// Batches that are in its neighbourhood but not in its memories: 0, unless the memories were prefetched.
    pub fn staleness(&self) -> u64 {
        self.version.saturating_sub(self.memory_version)
    }

    /// Both ends of each pair of the queries it was read for, as rows of its roots' table: `[P]` of source and
    /// destination.
    pub fn pair_rows<'a>(&'a self, queries: &'a Queries) -> impl ExactSizeIterator<Item = [u32; 2]> + Clone + 'a {
        queries.pairs().iter().map(|pair| [pair.src, pair.dst].map(|root| self.roots[root as usize]))
    }

    /// The pairs of the queries it was read for, as rows of its roots' table.
    pub fn pair_plan(&self, queries: &Queries) -> PairPlan {
        queries.pair_plan(|root| self.roots[root as usize])
    }
}

/// Memory of `U` nodes and the mail that waits for them.
#[derive(Debug)]
pub enum MailView {
    /// At most one mail a node: what the fused updater reads.
    Last(Arc<MailPlan>),
    /// Any number of mails a node, or its last few.
    Many(Arc<ManyMails>),
}

impl Default for MailView {
    fn default() -> MailView {
        MailView::Last(Arc::default())
    }
}

impl MailView {
    /// Stored memory, `[U, D]`.
    pub fn memory(&self) -> &[f32] {
        match self {
            MailView::Last(plan) => &plan.memory,
            MailView::Many(mails) => &mails.memory,
        }
    }
}

/// Every waiting mail of the updated nodes, grouped by receiver.
#[derive(Debug, Default)]
pub struct ManyMails {
    /// Distinct nodes `U`.
    pub unique: usize,
    /// Stored memory, `[U, D]`.
    pub memory: Vec<f32>,
    /// Rows updated, ascending, `[M]`.
    pub rows: Vec<u32>,
    /// Offsets of each receiver's mails, `[M + 1]`; an empty group is a zero message.
    pub starts: Vec<u32>,
    /// What each mail carries of the other end, its memory or what the model gave, `[mails, width]`; the oldest of a
    /// receiver first.
    pub other: Vec<f32>,
    /// Event of each mail, `[mails]`.
    pub event: Vec<u64>,
    /// Ticks from the receiver's last update before the mail to the mail, `[mails]`.
    pub dt: Vec<f32>,
    /// Time of each mail in ticks, `[mails]`.
    pub time: Vec<i64>,
}

/// The neighbours of some centres.
#[derive(Debug, Default)]
pub struct Hop {
    /// Rows of the centres in the table below, `[C]`; the centres are distinct.
    pub centres: Vec<u32>,
    /// Their neighbours: rows of the table below, events and time differences, newest first.
    pub neighbours: Neighbours,
    /// Ticks from each centre's last memory update to its query, `[C]`, if the model needs them.
    pub idle: Vec<f32>,
    /// Ticks from the log's first event to each centre's query, `[C]`, if the model needs them.
    pub age: Vec<f32>,
}

impl Hop {
    /// The rows of the neighbours shown for `centre`, newest first.
    pub(crate) fn shown(&self, centre: u32) -> &[u32] {
        let (found, centre) = (&self.neighbours, centre as usize);
        &found.row[centre * found.k..][..found.count[centre] as usize]
    }
}
