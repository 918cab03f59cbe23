//! What has happened: node memories, mailboxes and recent neighbours, with two verbs.
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

/// The state of the world a model has seen.
///
/// [`view`](History::view) reads the past and changes nothing; [`observe`](History::observe) lets a batch happen and is the only
/// thing that writes. A view always comes first: what it shows is the memory of the batch's start, and neighbours strictly before
/// each root's time.
///
/// It has two halves: the [`Graph`], which follows from the events alone, and the [`Memories`], which follow from what a model made of
/// them. Both verbs are made of the halves' own, so that a trainer can look into the graph of batches to come while the memories are
/// still those of now.
#[derive(Debug)]
pub struct History {
    pub(crate) graph: Graph,
    /// Shared, so that others can read on while a copy is written.
    pub(crate) memories: Arc<Memories>,
    pub(crate) features: Features,
    /// Whether other processes have the same tables.
    pub(crate) shared: bool,
}

/// Events of a tick that a history which grows in place has room for from the start.
const PENDING: usize = 64;

/// Constant features a history shows beside what has happened.
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
    /// An empty history of `nodes` nodes. `origin` is the time memories count from: the log's first event.
    pub fn new(nodes: usize, needs: Needs, origin: Timestamp, features: Features) -> History {
        let memories = Arc::new(Memories::new(nodes, &needs, origin));
        History { graph: Graph::new(nodes, needs, origin), memories, features, shared: false }
    }

    /// Of two halves that have seen the same.
    pub(crate) fn of(graph: Graph, memories: Memories, features: Features) -> History {
        History { graph, memories: Arc::new(memories), features, shared: false }
    }

    /// Makes room for node numbers below `nodes`; what is held stays.
    pub fn grow(&mut self, nodes: usize) {
        self.graph.grow(nodes);
        self.memories_mut().grow(nodes);
    }

    /// From here on [grows](History::grow) without moving what it holds, which takes the longer the more that is and nobody can read
    /// meanwhile. The tables get more addresses than they will ever need, which cost no memory until they are used; where the system has
    /// none to lend, they are moved when they have outgrown their room, as before. There is room for the events of a tick, too.
    pub fn grow_in_place(&mut self) {
        self.tables().into_iter().for_each(|(table, _)| table.reserve_addresses());
        self.graph.pending.reserve(PENDING);
    }

    /// Says that the events to come are those of `log`: where all of a node's events have to be kept, they are read there, sorted by node
    /// once for all histories of the log, and not kept a second time. Events that are not the log's may still come; they only take their
    /// own room. `rings` says for how many nodes, in all histories that follow the log, only the newest events would be kept otherwise: these
    /// are read in the log as well where that takes less room.
    pub fn attach_log(&mut self, log: &EventLog, rings: usize) {
        self.graph.attach_log(log, rings);
    }

    /// Moves it out; what stays has room for no node.
    pub fn take(&mut self) -> History {
        let nothing = self.without_room();
        std::mem::replace(self, nothing)
    }

    /// An empty one of the same needs, with room for no node.
    pub(crate) fn without_room(&self) -> History {
        History::new(0, self.needs().clone(), self.graph.origin, self.features.clone())
    }

    /// Forgets everything that happened; the room stays.
    pub fn reset(&mut self) {
        self.graph.reset();
        self.memories_mut().reset();
    }

    /// The memories, to be written: a copy of their own if somebody else holds them.
    ///
    /// # Panics
    /// If somebody holds memories that several processes have together: what is written has to be written where the others see it.
    pub(crate) fn memories_mut(&mut self) -> &mut Memories {
        match self.shared {
            false => Arc::make_mut(&mut self.memories),
            true => Arc::get_mut(&mut self.memories)
                .expect("nobody reads memories that processes have together while they are written"),
        }
    }

    /// What follows from the events alone.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What a model made of the events. Who keeps it while the history goes on makes the history copy it.
    pub fn memories(&self) -> &Arc<Memories> {
        &self.memories
    }

    /// The constant features it shows.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Nodes there is room for.
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

    /// Time of the newest event observed.
    pub fn newest(&self) -> Option<Timestamp> {
        self.graph.newest()
    }

    /// What this history keeps.
    pub fn needs(&self) -> &Needs {
        self.graph.needs()
    }

    /// When `event` of `node` happened, if it is still known.
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

    /// Events that settled for a node, in either direction.
    pub fn degree(&self, node: crate::NodeId) -> u64 {
        self.graph.adjacency.degree(node)
    }

    /// Bytes this history holds, features and what it shares with a log not counted.
    pub fn bytes(&self) -> usize {
        self.graph.bytes() + self.memories.bytes()
    }

    /// Those of its bytes that no other process has too.
    pub fn own_bytes(&self) -> usize {
        if self.shared { self.graph.bytes_of_pairs() } else { self.bytes() }
    }

    /// Replaces the edge features events are looked up in: a log that grows brings a new table.
    pub fn set_edge_features(&mut self, edges: Option<Arc<dyn Rows>>) {
        self.features.edges = edges;
    }

    /// Keeps memories with their mail read, once they are [noted](History::cache_updated): views then show them as they are, with no mail left
    /// to read, until an event changes them. What is observed, stored and shown stays the same to the last bit. Does nothing for a
    /// model without memory, or one that reads several mails.
    pub fn enable_updated_cache(&mut self) {
        if self.needs().memory > 0 && self.needs().mail.combine == Combine::Last {
            let memories = Arc::make_mut(&mut self.memories);
            memories.enable_updated_cache();
        }
    }

    /// Notes memories that were computed from a view of `version`, where nothing they were computed from has been written since.
    pub fn cache_updated(&mut self, update: &Update, version: u64) {
        Arc::make_mut(&mut self.memories).cache_updated(update, version);
    }

    /// Whether memories with their mail read are [kept](History::enable_updated_cache).
    pub fn has_updated_cache(&self) -> bool {
        self.memories.updated_cache.is_some()
    }

    /// Whether the memory of `node`, its mail read, or its neighbours may have changed after `version`.
    pub(crate) fn changed_after(&self, node: NodeId, version: u64) -> bool {
        !self.memories.unwritten_since(node, version)
    }

    /// Reads the past of the roots of `queries`, strictly before each root's time.
    ///
    /// `during` is the batch in hand: exact lookups see its earlier events too. All nodes it touches are in the view, so that the
    /// forward pass can say what observing it will write; neighbours that only get its mail are not, since nothing of them is written
    /// from the view. `chance` draws uniform neighbours; a root's draw depends on its node and
    /// time only. Every layer looks at the root's time (as the TGN authors' code does), since the memories are those of now.
    ///
    /// # Panics
    /// If a root or the batch names a node the history has no room for: callers check ids where they enter.
    pub fn view(&self, queries: &Queries, during: Option<&Batch<'_>>, chance: PurposeDraw) -> View {
        let mut view = View::default();
        self.view_into(queries, during, chance, &mut view);
        view
    }

    /// Reads what [`view`](History::view) reads over what `view` showed before, in the same memory.
    ///
    /// Mail that somebody else still holds is left to them: the view then shows its own anew.
    ///
    /// # Panics
    /// As [`view`](History::view) does.
    pub fn view_into(&self, queries: &Queries, during: Option<&Batch<'_>>, chance: PurposeDraw, view: &mut View) {
        self.graph.sample_into(queries, during, chance, view);
        self.features.show_in(view);
        self.memories.read_into(view);
    }

    /// Lets `batch` happen: the touched nodes' memories are written, mail of this batch takes the place of what was read into them, and the
    /// events join the neighbourhood. [Neighbours](crate::Receivers::Neighbours) that get mail keep their memories.
    ///
    /// # Errors
    /// [`ObserveError`], and nothing has changed: an event earlier than one already observed, an unknown node, an update without
    /// a row for a touched node, or one that says more or less in mail than the ends of the batch do.
    pub fn observe(&mut self, batch: &Batch<'_>, update: &Update) -> Result<(), ObserveError> {
        self.apply(batch, update, 1)
    }

    /// Lets the events of a [wave](crate::Waves) happen: the history is then as if each had been observed by itself, its
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
            self.graph.apply(batch, &receivers, versions, TableWriter::ThisProcess);
        }
        self.graph.receivers = receivers;
        happened
    }
}

impl Clone for History {
    /// Memories are copied when one of both is written; those that several processes have together, at once.
    fn clone(&self) -> Self {
        let memories = if self.shared { Arc::new((*self.memories).clone()) } else { self.memories.clone() };
        History { graph: self.graph.clone(), memories, features: self.features.clone(), shared: false }
    }
}

impl Features {
    /// Shows the features in `view`: the stage between the sampled neighbours and the memories.
    pub fn show_in(&self, view: &mut View) {
        view.edge_features.clone_from(&self.edges);
        view.node_features.clone_from(&self.nodes);
        view.static_memory.clone_from(&self.static_memory);
    }
}
