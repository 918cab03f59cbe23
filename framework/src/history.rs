//! What has happened: node memories, mailboxes and recent neighbours, with two verbs.

use std::sync::Arc;

use tempograph_kernels::Rows;

use crate::adjacency::{Adjacency, Link};
use crate::mailbox::{Mail, Mailbox};
use crate::needs::Sampler;
use crate::pairs::PairIndex;
use crate::places::Places;
use crate::{Batch, Event, EventLog, Needs, NodeId, Timestamp, Update};

/// The state of the world a model has seen.
///
/// [`view`](History::view) reads the past and changes nothing; [`observe`](History::observe) lets a batch happen and is the only
/// thing that writes. A view always comes first: what it shows is the memory of the batch's start, and neighbours strictly before
/// each root's time.
#[derive(Clone, Debug)]
pub struct History {
    pub(crate) needs: Needs,
    pub(crate) origin: Timestamp,
    /// `[N, D]`.
    pub(crate) memory: Vec<f32>,
    /// `[N]` time of the last mail read into each memory.
    pub(crate) updated: Vec<Timestamp>,
    pub(crate) mailbox: Mailbox,
    pub(crate) adjacency: Adjacency,
    pub(crate) pairs: PairIndex,
    /// Events of the newest tick: not before any query at that tick, so not settled yet.
    pub(crate) pending: Vec<Event>,
    pub(crate) seen: u64,
    pub(crate) version: u64,
    pub(crate) features: Features,
    /// Where each node stands in the update at hand.
    rows: Places,
}

/// Constant features a history shows beside what has happened.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// `E` columns by event id.
    pub edges: Option<Arc<dyn Rows>>,
    /// `F` columns by node.
    pub nodes: Option<Arc<dyn Rows>>,
}

/// Why a batch could not happen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ObserveError {
    /// Time went backwards.
    #[error("event {event} at t={time} arrived after t={newest}")]
    Late {
        /// The late event.
        event: u64,
        /// Its time.
        time: i64,
        /// The newest time already observed.
        newest: i64,
    },
    /// A node the history has no room for.
    #[error("event {event} names node {node}, but the history holds {nodes} nodes")]
    UnknownNode {
        /// The event.
        event: u64,
        /// The node.
        node: u32,
        /// Nodes held.
        nodes: usize,
    },
    /// An update that leaves out a node the batch touches.
    #[error("the update has no memory row for node {node}")]
    MissingRow {
        /// The node.
        node: u32,
    },
}

impl History {
    /// An empty history of `nodes` nodes. `origin` is the time memories count from: the log's first event.
    pub fn new(nodes: usize, needs: Needs, origin: Timestamp, features: Features) -> History {
        let adjacency = match needs.sampler {
            // Facts about pairs say how long a node has been idle: that takes its newest event even where no neighbours are shown.
            Sampler::Recent => Adjacency::last(0, needs.neighbours.max(usize::from(needs.pairs))),
            Sampler::Uniform | Sampler::Window(_) => Adjacency::all(0),
        };
        let mut history = History {
            origin,
            memory: Vec::new(),
            updated: Vec::new(),
            mailbox: Mailbox::new(0, needs.mail, needs.memory),
            adjacency,
            pairs: PairIndex::default(),
            pending: Vec::new(),
            seen: 0,
            version: 0,
            features,
            needs,
            rows: Places::default(),
        };
        history.grow(nodes);
        history
    }

    /// Makes room for node numbers below `nodes`; what is held stays.
    pub fn grow(&mut self, nodes: usize) {
        let nodes = nodes.max(self.nodes());
        self.memory.resize(nodes * self.needs.memory, 0.0);
        self.updated.resize(nodes, self.origin);
        self.mailbox.grow(nodes);
        self.adjacency.grow(nodes);
        self.rows.make_room(nodes);
    }

    /// Says that the events to come are those of `log`: where all of a node's events have to be kept, they are read there, sorted by node
    /// once for all histories of the log, and not kept a second time. Events that are not the log's may still come; they only take their
    /// own room.
    pub fn follow(&mut self, log: &EventLog) {
        if self.needs.sampler != Sampler::Recent {
            self.adjacency.follow(log.by_node());
        }
    }

    /// Forgets everything that happened; the room stays.
    pub fn reset(&mut self) {
        self.memory.fill(0.0);
        self.updated.fill(self.origin);
        self.mailbox.clear_all();
        self.adjacency.clear();
        self.pairs.clear();
        self.pending.clear();
        (self.seen, self.version) = (0, 0);
    }

    /// Nodes there is room for.
    pub fn nodes(&self) -> usize {
        self.updated.len()
    }

    /// Batches observed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Events observed: the position in the log.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Time of the newest event observed.
    pub fn newest(&self) -> Option<Timestamp> {
        self.pending.last().map(|event| event.time)
    }

    /// What this history keeps.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// All stored memories, `[N, D]`, as written by the last observe of each node (waiting mail not read).
    pub fn memory(&self) -> &[f32] {
        &self.memory
    }

    /// Time of the newest mail read into each memory, `[N]`.
    pub fn updated(&self) -> &[Timestamp] {
        &self.updated
    }

    /// Events that settled for a node, in either direction.
    pub fn degree(&self, node: NodeId) -> u64 {
        self.adjacency.degree(node)
    }

    /// Bytes this history holds, features and what it shares with a log not counted.
    pub fn bytes(&self) -> usize {
        let nodes = self.nodes();
        let mail = nodes * (size_of::<Mail>() + 4 * self.mailbox.carried());
        4 * self.memory.len() + 16 * nodes + mail + self.adjacency.bytes() + 24 * self.pairs.len()
    }

    /// Replaces the edge features events are looked up in: a log that grows brings a new table.
    pub fn set_edge_features(&mut self, edges: Option<Arc<dyn Rows>>) {
        self.features.edges = edges;
    }

    /// Lets `batch` happen: the touched nodes' memories are written, their mail is replaced by that of this batch, and the events
    /// join the neighbourhood.
    ///
    /// # Errors
    /// [`ObserveError`], and nothing has changed: an event earlier than one already observed, an unknown node, or an update without
    /// a row for a touched node.
    pub fn observe(&mut self, batch: &Batch<'_>, update: &Update) -> Result<(), ObserveError> {
        self.rows.note_all(&update.nodes);
        self.check(batch, update)?;
        if self.needs.memory > 0 {
            self.write_memories(batch, update);
            self.deliver(batch);
        }
        for event in batch.events() {
            self.settle_before(event.time);
            self.pending.push(event);
        }
        self.seen += batch.len() as u64;
        self.version += 1;
        Ok(())
    }

    fn check(&self, batch: &Batch<'_>, update: &Update) -> Result<(), ObserveError> {
        let mut newest = self.pending.last().map(|event| event.time);
        for event in batch.events() {
            if let Some(newest) = newest.filter(|&newest| event.time < newest) {
                return Err(ObserveError::Late { event: event.id.0, time: event.time.0, newest: newest.0 });
            }
            newest = Some(event.time);
            for node in [event.src, event.dst] {
                if node.index() >= self.nodes() {
                    return Err(ObserveError::UnknownNode { event: event.id.0, node: node.0, nodes: self.nodes() });
                }
                if self.needs.memory > 0 && self.new_memory(node, update).is_none() {
                    return Err(ObserveError::MissingRow { node: node.0 });
                }
            }
        }
        Ok(())
    }

    /// The row of `node` in the update at hand, `[D]`.
    fn new_memory<'u>(&self, node: NodeId, update: &'u Update) -> Option<&'u [f32]> {
        let row = self.rows.of(node, &update.nodes)?;
        update.memory.get(row * self.needs.memory..(row + 1) * self.needs.memory)
    }

    fn write_memories(&mut self, batch: &Batch<'_>, update: &Update) {
        let width = self.needs.memory;
        for &node in batch.src.iter().chain(batch.dst) {
            if let Some(row) = self.new_memory(node, update) {
                self.memory[node.index() * width..][..width].copy_from_slice(row);
            }
            if let Some(mail) = self.mailbox.waiting(node).last() {
                self.updated[node.index()] = mail.time;
            }
            self.mailbox.clear(node);
        }
    }

    fn deliver(&mut self, batch: &Batch<'_>) {
        let width = self.needs.memory;
        for event in batch.events() {
            for (node, link) in Link::ends(event.id, event.src, event.dst, event.time) {
                let mail = Mail { event: event.id, other: link.node, time: event.time, since: self.updated[node.index()] };
                self.mailbox.deliver(node, mail, &self.memory[link.node.index() * width..][..width]);
            }
        }
    }

    /// Moves the pending events into the settled past if they are strictly before `time`.
    fn settle_before(&mut self, time: Timestamp) {
        if self.pending.last().is_none_or(|event| event.time >= time) {
            return;
        }
        for event in self.pending.drain(..) {
            for (node, link) in Link::ends(event.id, event.src, event.dst, event.time) {
                self.adjacency.insert(node, link);
            }
            if self.needs.pairs {
                self.pairs.insert(event.src, event.dst, event.time);
            }
        }
    }
}
