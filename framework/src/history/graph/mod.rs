//! Events by node and by pair: the half of a history that depends on the events alone.
pub(crate) mod adjacency;
pub(crate) mod event_window;
pub(crate) mod facts;
pub(crate) mod pairs;
pub(crate) mod receivers;
pub(crate) mod sample;
pub(crate) mod walks;

use rustc_hash::FxHashMap;

use crate::history::graph::adjacency::Adjacency;
use crate::history::graph::pairs::PairIndex;
use crate::history::graph::receivers::NeighbourMail;
use crate::history::graph::walks::Walks;
use crate::log::link::Link;
use crate::storage::buffer::{AnyBuffer, Buffer};
use crate::{Batch, Event, EventId, EventLog, Needs, NodeId, ObserveError, Timestamp};

/// Which process writes the tables that this one shares with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableWriter {
    /// This process writes the tables.
    ThisProcess,
    /// Another process has written them.
    OtherProcess,
}

/// Recent neighbours, pairs, times and, if needed, rows of temporal walks of every node.
///
/// It does not depend on weights, so the graph of a later batch can be sampled before the batches up to there are
/// trained: call [`sample_into`](Graph::sample_into) and [`observe`](Graph::observe) in turn.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(crate) needs: Needs,
    pub(crate) origin: Timestamp,
    pub(crate) adjacency: Adjacency,
    pub(crate) pairs: PairIndex,
    /// Events of the newest tick: a query at that tick may not see them, so they have not settled yet.
    pub(crate) pending: Vec<Event>,
    /// Time of the newest event. If that was retracted since, it may have been lowered.
    pub(crate) newest: Option<Timestamp>,
    /// `[N]` the time of each memory once its waiting mail is read: that of the node's newest event, or the origin.
    pub(crate) memory_time: Buffer<Timestamp>,
    /// The memory times that the newest tick has changed, as they were before.
    pub(crate) tick: TickTimes,
    /// `[N]` the first event that may belong to the node that has the number now, once numbers have been
    /// [reused](crate::History::forget).
    pub(crate) valid_from: Vec<EventId>,
    pub(crate) seen: u64,
    pub(crate) version: u64,
    /// The neighbours that get mail of the current batch.
    pub(crate) receivers: NeighbourMail,
    /// Rows of temporal walks, if the model needs them.
    pub(crate) walks: Option<Walks>,
}

impl Graph {
    /// A graph of `nodes` nodes without events. `origin` is the time that memories start from: the log's first event.
    pub fn new(nodes: usize, needs: Needs, origin: Timestamp) -> Graph {
        let adjacency = match needs.keeps_all() {
            false => Adjacency::last(0, needs.recent()),
            true => Adjacency::all(0),
        };
        let walks = needs.walks.filter(|rule| rule.width > 0).map(|rule| Walks::new(0, rule, origin));
        let mut graph = Graph {
            needs,
            origin,
            adjacency,
            pairs: PairIndex::default(),
            pending: Vec::new(),
            newest: None,
            memory_time: Buffer::default(),
            tick: TickTimes::default(),
            valid_from: Vec::new(),
            seen: 0,
            version: 0,
            receivers: NeighbourMail::default(),
            walks,
        };
        graph.grow(nodes);
        graph
    }

    /// Grows the tables to hold node numbers below `nodes`; existing values stay.
    pub fn grow(&mut self, nodes: usize) {
        let nodes = nodes.max(self.nodes());
        self.adjacency.grow(nodes);
        self.memory_time.resize(nodes, self.origin);
        if !self.valid_from.is_empty() {
            self.valid_from.resize(nodes, EventId(0));
        }
        if let Some(walks) = &mut self.walks {
            walks.grow(nodes);
        }
    }

    /// As [`History::attach_log`](crate::History::attach_log).
    pub fn attach_log(&mut self, log: &EventLog, rings: usize) {
        if Graph::attaches_log(&self.needs, log, rings) {
            self.adjacency.attach_log(log.by_node());
        }
    }

    /// Whether graphs that [attach](crate::History::attach_log) `log` read events from it, sorted by node, and store
    /// none.
    pub fn attaches_log(needs: &Needs, log: &EventLog, rings: usize) -> bool {
        let ring = size_of::<Link>() * needs.recent();
        needs.keeps_all() || rings * ring > 2 * size_of::<Link>() * log.len()
    }

    /// Its tables, each with the number of entries for a node.
    pub(crate) fn tables(&mut self) -> Vec<(&mut dyn AnyBuffer, usize)> {
        let mut tables = self.adjacency.tables();
        tables.push((&mut self.memory_time, 1));
        tables.extend(self.walks.iter_mut().flat_map(Walks::tables));
        tables
    }

    /// Forgets all events; the allocated tables stay.
    pub fn reset(&mut self) {
        let recycled = !self.valid_from.is_empty();
        self.reset_local();
        if let Some(walks) = &mut self.walks {
            walks.reset(recycled);
        }
        self.adjacency.clear();
        self.memory_time.fill(self.origin);
    }

    /// Forgets what is in no table.
    pub(crate) fn reset_local(&mut self) {
        self.adjacency.reset_local();
        self.pairs.clear();
        self.pending.clear();
        self.newest = None;
        self.tick.time = None;
        self.tick.nodes.clear();
        self.valid_from.clear();
        (self.seen, self.version) = (0, 0);
    }

    /// Nodes the tables hold.
    pub fn nodes(&self) -> usize {
        self.memory_time.len()
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
        self.newest
    }

    /// What this graph keeps.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Bytes it holds, without what it shares with a log.
    pub fn bytes(&self) -> usize {
        let walks = self.walks.as_ref().map_or(0, Walks::bytes);
        16 * self.nodes() + self.adjacency.bytes() + self.bytes_of_pairs() + walks
    }

    /// Bytes of the facts about pairs.
    pub(crate) fn bytes_of_pairs(&self) -> usize {
        36 * self.pairs.all().len()
    }

    /// Applies the events of `batch`.
    ///
    /// # Errors
    /// [`ObserveError`], and nothing has changed: an event earlier than one already observed, or an unknown node.
    pub fn observe(&mut self, batch: &Batch<'_>) -> Result<(), ObserveError> {
        self.check(batch)?;
        let receivers = self.find_receivers(batch);
        self.save_before_tick(batch, &receivers);
        self.apply(batch, &receivers, 1, TableWriter::ThisProcess);
        self.receivers = receivers;
        Ok(())
    }

    /// The neighbours that get mail of `batch`, in the buffer that the graph keeps for them; the caller gives the
    /// buffer back.
    pub(crate) fn find_receivers(&mut self, batch: &Batch<'_>) -> NeighbourMail {
        let mut receivers = std::mem::take(&mut self.receivers);
        self.receivers_into(batch, &mut receivers);
        receivers
    }

    /// Checks that `batch` can be applied.
    pub(crate) fn check(&self, batch: &Batch<'_>) -> Result<(), ObserveError> {
        let mut newest = self.newest();
        for event in batch.events() {
            if let Some(newest) = newest.filter(|&newest| event.time < newest) {
                return Err(ObserveError::Late { event: event.id.0, time: event.time.0, newest: newest.0 });
            }
            newest = Some(event.time);
            if let Some(node) = [event.src, event.dst].into_iter().find(|node| node.index() >= self.nodes()) {
                return Err(ObserveError::UnknownNode { event: event.id.0, node: node.0, nodes: self.nodes() });
            }
        }
        Ok(())
    }

    /// Saves the memory times that the newest tick of `batch` is about to change. Every process that holds the tables
    /// calls it before the batch is written.
    pub(crate) fn save_before_tick(&mut self, batch: &Batch<'_>, receivers: &NeighbourMail) {
        let Some(&newest) = batch.time.last().filter(|_| self.needs.is_strict()) else { return };
        let begins = self.tick.time != Some(newest);
        if begins {
            self.tick.nodes.clear();
            self.tick.time = Some(newest);
        }
        let touched = |e: usize| {
            let ends = [batch.src[e], batch.dst[e]].into_iter();
            ends.chain(receivers.of_event(e).iter().map(|sent| sent.to))
        };
        let cut = batch.time.partition_point(|&time| time < newest);
        for node in (cut..batch.len()).flat_map(touched) {
            self.tick.nodes.entry(node).or_insert(self.memory_time[node.index()]);
        }
        // The events before the tick that begins are in what is shown of it.
        for e in if begins { 0..cut } else { 0..0 } {
            for node in touched(e) {
                if let Some(time) = self.tick.nodes.get_mut(&node) {
                    *time = batch.time[e];
                }
            }
        }
    }

    /// Applies `versions` batches, which were checked.
    pub(crate) fn apply(&mut self, batch: &Batch<'_>, receivers: &NeighbourMail, versions: u64, writer: TableWriter) {
        for (e, event) in batch.events().enumerate() {
            self.flush_pending_before(event.time, writer);
            self.pending.push(event);
            self.newest = Some(event.time);
            if writer == TableWriter::ThisProcess {
                self.set_memory_time(event);
                receivers.of_event(e).iter().for_each(|sent| self.memory_time[sent.to.index()] = event.time);
            }
        }
        self.seen += batch.len() as u64;
        self.version += versions;
    }

    /// The event's mail now waits at both ends. Without memory there is no mail.
    fn set_memory_time(&mut self, event: Event) {
        if self.needs.memory > 0 {
            [event.src, event.dst].into_iter().for_each(|node| self.memory_time[node.index()] = event.time);
        }
    }

    /// Moves the pending events into the settled past if they are strictly before `time`.
    fn flush_pending_before(&mut self, time: Timestamp, writer: TableWriter) {
        if self.pending.last().is_none_or(|event| event.time >= time) {
            return;
        }
        if writer == TableWriter::ThisProcess {
            self.flush_pending_walks();
        }
        for event in self.pending.drain(..) {
            for (node, link) in Link::ends(event.id, event.src, event.dst, event.time) {
                match writer {
                    TableWriter::ThisProcess => self.adjacency.insert(node, link),
                    TableWriter::OtherProcess => self.adjacency.apply_remote(node, link),
                }
            }
            if self.needs.pairs {
                self.pairs.insert(event.src, event.dst, event.time);
            }
        }
    }

    /// The time of the memory of `node` once its waiting mail is read.
    pub(crate) fn memory_time(&self, node: NodeId) -> Timestamp {
        self.memory_time[node.index()]
    }

    /// The same, as a view of the past before `before` shows it.
    pub(crate) fn memory_time_at(&self, node: NodeId, before: Timestamp) -> Timestamp {
        let old = if self.tick.time.is_some_and(|time| before <= time) { self.tick.nodes.get(&node) } else { None };
        old.copied().unwrap_or_else(|| self.memory_time(node))
    }
}

/// Memory times of the nodes that one tick has changed, each as it was before the tick.
#[derive(Clone, Debug, Default)]
pub(crate) struct TickTimes {
    pub time: Option<Timestamp>,
    pub nodes: FxHashMap<NodeId, Timestamp>,
}
