//! The state that past events left: node memories, mailboxes and recent neighbours, with two verbs.
pub(crate) mod change;
pub(crate) mod device;
pub(crate) mod graph;
pub(crate) mod memory;
pub(crate) mod persist;
pub(crate) mod shared_tables;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod view;

use std::sync::Arc;

use tempograph_kernels::Rows;

use crate::history::graph::TableWriter;
use crate::{
    Batch, Combine, EventId, EventLog, Graph, Memories, Needs, NodeId, ObserveError, PurposeDraw, Queries, Timestamp,
    Update, View,
};

/// The state of past events: node memories, waiting mail and neighbours.
///
/// [`view`](History::view) reads the past and changes nothing. [`observe`](History::observe) applies a batch and is
/// the only method that writes. The view of a batch is always read before the batch is observed: it shows memories
/// from before the batch, and neighbours strictly before each root's time.
///
/// A history has two halves: the [`Graph`] depends on the events alone, and the [`Memories`] depend on what a model
/// computed from them. Each half has its own `view` and `observe` steps, so a trainer can sample the graph of later
/// batches while the memories are still at an earlier version.
#[derive(Debug)]
pub struct History {
    pub(crate) graph: Graph,
    /// Shared, so that readers go on with the old values while a copy is written.
    pub(crate) memories: Arc<Memories>,
    pub(crate) features: Features,
    /// Whether other processes share the tables.
    pub(crate) shared: bool,
}

/// Pending events (of one tick) for which a history that grows in place reserves space from the start.
const PENDING: usize = 64;

/// Constant features that a history shows in its views.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// `E` columns by event id.
    pub edges: Option<Arc<dyn Rows>>,
    /// `F` columns by node.
    pub nodes: Option<Arc<dyn Rows>>,
    /// Static memory, `S` columns by node.
    pub static_memory: Option<Arc<dyn Rows>>,
}

impl History {
    /// An empty history of `nodes` nodes. `origin` is the time that memories start from: the log's first event.
    pub fn new(nodes: usize, needs: Needs, origin: Timestamp, features: Features) -> History {
        let memories = Arc::new(Memories::new(nodes, &needs, origin));
        History { graph: Graph::new(nodes, needs, origin), memories, features, shared: false }
    }

    /// A history of two halves that have observed the same events.
    pub(crate) fn of(graph: Graph, memories: Memories, features: Features) -> History {
        History { graph, memories: Arc::new(memories), features, shared: false }
    }

    /// Grows the tables to hold node numbers below `nodes`; existing values stay.
    pub fn grow(&mut self, nodes: usize) {
        self.graph.grow(nodes);
        self.memories_mut().grow(nodes);
    }

    /// Makes later calls of [`grow`](History::grow) extend the tables in place instead of moving them. Moving takes
    /// longer the larger the tables are, and nobody can read meanwhile. The tables reserve more addresses than they
    /// will ever need, which use no memory until they are written. Where the system cannot reserve them, tables are
    /// moved when they are full, as before. Space for the pending events of a tick is reserved, too.
    pub fn grow_in_place(&mut self) {
        self.tables().into_iter().for_each(|(table, _)| table.reserve_addresses());
        self.graph.pending.reserve(PENDING);
        self.graph.tick.nodes.reserve(2 * PENDING);
        let memories = self.memories_mut();
        if memories.strict {
            memories.tick.reserve(2 * PENDING, memories.width);
            memories.next_tick.reserve(2 * PENDING, memories.width);
        }
    }

    /// Attaches `log`: the events to come are expected to be those of `log`. Where all events of a node have to be
    /// kept, they are then read from the log, sorted by node once for all histories of the log, and not stored a
    /// second time. Events that are not the log's may still be observed; they are stored in the history. `rings` says
    /// for how many nodes, in all histories attached to the log, only the newest events would be kept otherwise: these
    /// are read from the log as well where that takes less memory.
    pub fn attach_log(&mut self, log: &EventLog, rings: usize) {
        self.graph.attach_log(log, rings);
    }

    /// Moves the history out; the one that stays holds no node.
    pub fn take(&mut self) -> History {
        let nothing = self.without_room();
        std::mem::replace(self, nothing)
    }

    /// An empty history with the same needs that holds no node.
    pub(crate) fn without_room(&self) -> History {
        History::new(0, self.needs().clone(), self.graph.origin, self.features.clone())
    }

    /// Forgets all events; the allocated tables stay.
    pub fn reset(&mut self) {
        self.graph.reset();
        self.memories_mut().reset();
    }

    /// The memories, for writing: they are copied first if somebody else holds them.
    ///
    /// # Panics
    /// If somebody holds memories that several processes share: a write has to be visible to the other processes.
    pub(crate) fn memories_mut(&mut self) -> &mut Memories {
        match self.shared {
            false => Arc::make_mut(&mut self.memories),
            true => Arc::get_mut(&mut self.memories)
                .expect("nobody reads memories that processes have together while they are written"),
        }
    }

    /// The half that depends on the events alone.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The half that a model computed from the events. While the caller holds this, the history copies it before
    /// writing.
    pub fn memories(&self) -> &Arc<Memories> {
        &self.memories
    }

    /// The constant features that its views show.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Nodes the tables hold.
    pub fn nodes(&self) -> usize {
        self.graph.nodes()
    }

    /// Batches observed.
    pub fn version(&self) -> u64 {
        self.graph.version()
    }

    /// Events observed: the position in the log.
    pub fn seen(&self) -> u64 {
        self.graph.seen()
    }

    /// The time that memories start from: that of the first event of the log it was begun with.
    pub fn origin(&self) -> Timestamp {
        self.graph.origin
    }

    /// Time of the newest event observed.
    pub fn newest(&self) -> Option<Timestamp> {
        self.graph.newest()
    }

    /// What this history keeps.
    pub fn needs(&self) -> &Needs {
        self.graph.needs()
    }

    /// The time of `event` of `node`, if the event is still kept.
    pub fn time_of(&self, node: NodeId, event: EventId) -> Option<Timestamp> {
        let pending = self.graph.pending.iter().find(|known| known.id == event).map(|known| known.time);
        pending
            .or_else(|| self.graph.adjacency.newest_first(node).find(|link| link.event == event).map(|link| link.time))
    }

    /// All stored memories, `[N, D]`, as written by the last observe of each node (waiting mail not read).
    pub fn memory(&self) -> &[f32] {
        self.memories.rows()
    }

    /// Time of the newest mail read into each memory, `[N]`.
    pub fn updated(&self) -> &[Timestamp] {
        self.memories.updated()
    }

    /// Settled events of a node, in either direction.
    pub fn degree(&self, node: crate::NodeId) -> u64 {
        self.graph.adjacency.degree(node)
    }

    /// Bytes this history holds, without features and without what it shares with a log.
    pub fn bytes(&self) -> usize {
        self.graph.bytes() + self.memories.bytes()
    }

    /// Those of its bytes that are not shared with another process.
    pub fn own_bytes(&self) -> usize {
        if self.shared { self.graph.bytes_of_pairs() } else { self.bytes() }
    }

    /// Calls `visit` with every event whose features a view may show: events in the neighbours that are kept, in waiting
    /// mail and in the newest tick. An event may be visited several times.
    pub fn visit_events(&self, mut visit: impl FnMut(EventId)) {
        let tick = &self.memories.tick;
        self.graph.pending.iter().for_each(|event| visit(event.id));
        for node in (0..self.nodes()).map(|node| NodeId(node as u32)) {
            self.graph.adjacency.newest_first(node).for_each(|link| visit(link.event));
            self.memories.mailbox.waiting(node).for_each(|mail| visit(mail.event));
        }
        for &slot in tick.slots.values() {
            tick.mailbox.waiting(NodeId(slot)).for_each(|mail| visit(mail.event));
        }
    }

    /// Replaces the edge features that events are looked up in: a growing log comes with a new table.
    pub fn set_edge_features(&mut self, edges: Option<Arc<dyn Rows>>) {
        self.features.edges = edges;
    }

    /// Caches memories with their mail already read, once they are passed to
    /// [`cache_updated`](History::cache_updated). Views then show the cached memory, with no mail left to read, until
    /// an event changes it. Observed, stored and shown values stay the same to the last bit. Does nothing for a model
    /// without memory, or one that reads several mails.
    pub fn enable_updated_cache(&mut self) {
        if self.needs().memory > 0 && self.needs().mail.combine == Combine::Last {
            let memories = Arc::make_mut(&mut self.memories);
            memories.enable_updated_cache();
        }
    }

    /// Caches memories that were computed from `view`, except where an input of theirs was written since. A view that
    /// is not after the newest tick shows older memories: nothing of it is cached.
    pub fn cache_updated(&mut self, update: &Update, view: &View) {
        if self.memories.tick.time.is_none_or(|tick| view.before > tick) {
            Arc::make_mut(&mut self.memories).cache_updated(update, view.version);
        }
    }

    /// Shows in `view`, which is of the nodes of a batch, their memories after all observed events.
    pub fn read_newest_into(&self, view: &mut View) {
        view.before = Timestamp(i64::MAX);
        self.memories.read_into(view);
    }

    /// Whether memories with their mail read are [cached](History::enable_updated_cache).
    pub fn has_updated_cache(&self) -> bool {
        self.memories.updated_cache.is_some()
    }

    /// Whether the memory of `node` (with its mail read) or its neighbours may have changed after `version`.
    pub(crate) fn changed_after(&self, node: NodeId, version: u64) -> bool {
        !self.memories.unwritten_since(node, version)
    }

    /// Reads the past of the roots of `queries`, strictly before each root's time.
    ///
    /// `during` is the current batch: exact lookups see its earlier events too. All nodes it touches are in the view,
    /// so that the forward pass can compute the update that observing it will write. Neighbours that only get its mail
    /// are not in the view, since no value of theirs is written from it. `chance` draws uniform neighbours; a root's
    /// draw depends on its node and time only. Every layer uses the root's time (as the TGN authors' code does), since
    /// the memories are the current ones.
    ///
    /// # Panics
    /// If a root or the batch names a node that the history does not hold: callers check ids at their entry points.
    pub fn view(&self, queries: &Queries, during: Option<&Batch<'_>>, chance: PurposeDraw) -> View {
        let mut view = View::default();
        self.view_into(queries, during, chance, &mut view);
        view
    }

    /// Like [`view`](History::view), but overwrites `view` and reuses its memory.
    ///
    /// Mail that somebody else still holds is left unchanged: the view then allocates its own.
    ///
    /// # Panics
    /// As [`view`](History::view) does.
    pub fn view_into(&self, queries: &Queries, during: Option<&Batch<'_>>, chance: PurposeDraw, view: &mut View) {
        self.graph.sample_into(queries, during, chance, view);
        self.features.show_in(view);
        self.memories.read_into(view);
    }

    /// Applies `batch`: the touched nodes' memories are written, the mail that was read into them is replaced by mail
    /// of this batch, and the events join the neighbourhood. [Neighbours](crate::Receivers::Neighbours) that get mail
    /// keep their memories.
    ///
    /// # Errors
    /// [`ObserveError`], and nothing has changed: an event earlier than one already observed, an unknown node, an
    /// update without a row for a touched node, or one with more or fewer numbers of mail than the ends of the batch
    /// need.
    pub fn observe(&mut self, batch: &Batch<'_>, update: &Update) -> Result<(), ObserveError> {
        self.apply(batch, update, 1)
    }

    /// Applies the events of a [wave](crate::Waves): the history is then as if each had been observed by itself, its
    /// [`version`](History::version) included.
    ///
    /// # Errors
    /// As [`observe`](History::observe).
    pub fn observe_wave(&mut self, wave: &Batch<'_>, update: &Update) -> Result<(), ObserveError> {
        self.apply(wave, update, wave.len() as u64)
    }

    fn apply(&mut self, batch: &Batch<'_>, update: &Update, versions: u64) -> Result<(), ObserveError> {
        self.graph.check(batch)?;
        let receivers = self.graph.find_receivers(batch);
        let happened = self.memories_mut().apply(batch, update, &receivers, versions);
        if happened.is_ok() {
            self.graph.save_before_tick(batch, &receivers);
            self.graph.apply(batch, &receivers, versions, TableWriter::ThisProcess);
        }
        self.graph.receivers = receivers;
        happened
    }
}

impl Clone for History {
    /// Memories are copied when one of the two histories writes; memories shared between processes are copied at once.
    fn clone(&self) -> Self {
        let memories = if self.shared { Arc::new((*self.memories).clone()) } else { self.memories.clone() };
        History { graph: self.graph.clone(), memories, features: self.features.clone(), shared: false }
    }
}

impl Features {
    /// Shows the features in `view`: the stage between sampling neighbours and reading memories.
    pub fn show_in(&self, view: &mut View) {
        view.edge_features.clone_from(&self.edges);
        view.node_features.clone_from(&self.nodes);
        view.static_memory.clone_from(&self.static_memory);
    }
}
