//! A history that is moved to a device and back.

use std::sync::Arc;

use tempograph_kernels::cube::{
    DeviceDataset, DeviceEvents, DeviceHistory, DeviceLog, DeviceRoots, DeviceRules, DeviceSampler, DeviceState,
    DeviceView, Matrix, StateLink, StateMail, TooLarge,
};
use tempograph_kernels::tensor::CubeRuntime;

use crate::history::memory::mailbox::Mail;
use crate::log::link::Link;
use crate::{
    Batch, Delta, Event, EventId, EventLog, Features, Graph, History, Lookup, MailContent, Memories, Needs, NodeId,
    PairFact, PurposeDraw, Queries, Sampler, Timestamp, View,
};

/// A history on a device, with the interface of one in host memory.
pub struct ResidentHistory<R: CubeRuntime> {
    /// The device side, which computes.
    pub device: DeviceHistory<R>,
    needs: Needs,
    origin: Timestamp,
    features: Features,
    nodes: usize,
    seen: u64,
    version: u64,
    facts: Option<Facts>,
}

/// Computes facts about pairs: they depend on the events alone, so the host knows them while the device computes.
struct Facts {
    graph: Graph,
    view: View,
}

/// Why a history cannot be on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFallback {
    /// It does not fit, together with the other vectors of its nodes.
    TooLarge(TooLarge),
    /// The log is too long: kernels count time in ticks from the log's first event, up to a limit.
    TooLong {
        /// Ticks to its last event.
        ticks: i64,
    },
    /// Several lanes train from views of it, or batches are prepared ahead.
    Viewed,
}

impl std::fmt::Display for HostFallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostFallback::TooLarge(TooLarge { bytes, room }) => {
                write!(f, "it takes {bytes} bytes, and there is room for {room}")
            }
            HostFallback::TooLong { ticks } => {
                write!(f, "its events are {ticks} ticks apart, and kernels count below {MOST_TICKS}")
            }
            HostFallback::Viewed => write!(f, "several lanes train from views of it, or batches are made ready ahead"),
        }
    }
}

/// Events on a device are fewer than this many ticks after the log's first event.
const MOST_TICKS: i64 = 1 << 31;

impl Needs {
    /// Widths of a memory and of a mail row.
    pub(crate) fn widths(&self) -> [usize; 2] {
        if self.memory == 0 { [0, 0] } else { [self.memory, self.mail.width(self.memory)] }
    }

    fn rules(&self) -> DeviceRules {
        DeviceRules {
            memory: self.memory,
            mail_width: self.widths()[1],
            given: self.memory > 0 && self.mail.says != MailContent::Memory,
            neighbours: self.neighbours,
            // Roots without neighbours are centres, too.
            layers: self.layers.max(1),
            sampler: match self.sampler {
                Sampler::Recent => DeviceSampler::Recent,
                Sampler::Uniform => DeviceSampler::Drawn { window: i64::MAX },
                Sampler::Window(window) => DeviceSampler::Drawn { window },
            },
            other_at_read: self.mail.reads_other(),
            update_without_mail: self.mail.update_without_mail,
            since_update: self.delta == Delta::SinceUpdate,
            idle: self.idle,
            pads: self.age,
            before_events: self.before_events,
        }
    }
}

impl<R: CubeRuntime> ResidentHistory<R> {
    /// Allocates on `device` what `history`, which has the right needs and features, needs for the events of `log`; no
    /// event is observed yet. `room` is the limit in bytes: edge features that do not fit stay in host memory.
    ///
    /// # Errors
    /// [`HostFallback`] if the rest does not fit, or the log is too long.
    ///
    /// # Panics
    /// If [`Needs::on_device`] is an error.
    pub fn new(device: &R::Device, history: &History, log: &EventLog, room: u64) -> Result<Self, HostFallback> {
        let needs = history.needs().clone();
        needs.on_device().unwrap_or_else(|what| panic!("a history on a device has no {what}"));
        let ticks = log.time().last().map_or(0, |last| last.0.saturating_sub(history.graph.origin.0));
        if ticks >= MOST_TICKS {
            return Err(HostFallback::TooLong { ticks });
        }
        let by_node = needs.keeps_all().then(|| ByNode::of(log, history.nodes()));
        let world = DeviceDataset {
            nodes: history.nodes(),
            origin: history.graph.origin.0,
            features: history.features.edges.clone(),
            events: log.len(),
            log: by_node.as_ref().map(ByNode::as_log),
            room,
        };
        Ok(Self {
            device: DeviceHistory::new(device, needs.rules(), &world).map_err(HostFallback::TooLarge)?,
            origin: history.graph.origin,
            features: history.features.clone(),
            nodes: history.nodes(),
            seen: 0,
            version: 0,
            facts: needs.pairs.then(|| {
                let mut graph = Graph::new(history.nodes(), needs.clone(), history.graph.origin);
                graph.attach_log(log, history.nodes());
                Facts { graph, view: View::default() }
            }),
            needs,
        })
    }

    /// The needs of the model.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Reads the past of the roots of `queries` with `batch` as the current batch, as [`History::view`] does.
    ///
    /// # Panics
    /// If a node is not below the number of nodes.
    pub fn look(&self, queries: &Queries, batch: &Batch<'_>, chance: PurposeDraw) -> DeviceView<R> {
        let places: Vec<u64> = queries.log_positions().iter().map(|place| place.0).collect();
        let (node, time) = (raw(queries.nodes()), ticks(queries.times()));
        let roots = DeviceRoots {
            node: &node,
            time: &time,
            place: (self.needs.lookup == Lookup::Ordered).then_some(&places),
            sees_batch: self.needs.lookup != Lookup::Batch,
            key: chance.key(),
            ends: queries.ends(),
        };
        let (src, dst, time) = (raw(batch.src), raw(batch.dst), ticks(batch.time));
        self.device.look(&roots, &DeviceEvents { src: &src, dst: &dst, time: &time, first: batch.first.0 })
    }

    /// The facts about the pairs of a [`look`](ResidentHistory::look) with the same arguments, if the model needs
    /// them.
    pub fn facts(&mut self, queries: &Queries, batch: &Batch<'_>, chance: PurposeDraw) -> &[PairFact] {
        let Some(Facts { graph, view }) = &mut self.facts else { return &[] };
        graph.sample_into(queries, Some(batch), chance, view);
        &view.pairs
    }

    /// Observes `batch`, for which `past` was read and whose rows have new memories; `said` are its mail rows, where
    /// the model gives them.
    ///
    /// # Panics
    /// If an event is earlier than one already observed, or mail rows are missing.
    pub fn observe(&mut self, batch: &Batch<'_>, past: &DeviceView<R>, memory: &Matrix<R>, said: Option<&Matrix<R>>) {
        self.device.observe(past, memory, said);
        if let Some(facts) = &mut self.facts {
            facts.graph.observe(batch).unwrap_or_else(|error| panic!("a log's batches come in order: {error}"));
        }
        self.seen += batch.len() as u64;
        self.version += 1;
    }

    /// Goes on from the state of `history` after its events of `log`.
    ///
    /// # Panics
    /// If it has other nodes or needs.
    pub fn enter(&mut self, history: &History, log: &EventLog) {
        (self.seen, self.version) = (history.seen(), history.version());
        let pending = &history.graph.pending;
        let first = pending.first().map_or(0, |event| event.id.index());
        let batch = log.batch(first..first + pending.len());
        let (src, dst, time) = (raw(batch.src), raw(batch.dst), ticks(batch.time));
        let events = DeviceEvents { src: &src, dst: &dst, time: &time, first: batch.first.0 };
        self.device.restore(&state_of(history), &events);
        if let Some(facts) = &mut self.facts {
            facts.graph = history.graph.clone();
            facts.graph.attach_log(log, history.nodes());
        }
    }

    /// The state as a history with `log` attached. Waits for the device.
    pub fn leave(&self, log: &EventLog) -> History {
        let state = self.device.state();
        let mut graph = Graph::new(self.nodes, self.needs.clone(), self.origin);
        graph.attach_log(log, self.nodes);
        (graph.seen, graph.version) = (self.seen, self.version);
        graph.pending = state.pending.iter().map(|&id| event(log, id)).collect();
        graph.newest = graph.pending.last().map(|event| event.time);
        if let Some(facts) = &self.facts {
            graph.pairs = facts.graph.pairs.clone();
        }
        match &self.facts {
            // Without neighbours in views only the facts have the adjacency.
            Some(facts) if self.needs.neighbours == 0 => graph.adjacency = facts.graph.adjacency.clone(),
            _ => restore_adjacency(&mut graph, &state, log),
        }
        let mut memories = Memories::new(self.nodes, &self.needs, self.origin);
        memories.version = self.version;
        memories.updated = state.updated.iter().copied().map(Timestamp).collect::<Vec<_>>().into();
        restore_mail(&mut memories, &state);
        memories.rows = state.memory.into();
        let memory_time =
            state.mail.iter().zip(&state.updated).map(|(mail, &updated)| mail.map_or(updated, |mail| mail.time));
        graph.memory_time = memory_time.map(Timestamp).collect::<Vec<_>>().into();
        History::of(graph, memories, self.features.clone())
    }
}

pub(crate) fn raw(nodes: &[NodeId]) -> Vec<u32> {
    nodes.iter().map(|node| node.0).collect()
}

fn ticks(times: &[Timestamp]) -> Vec<i64> {
    times.iter().map(|time| time.0).collect()
}

fn event(log: &EventLog, id: u64) -> Event {
    let at = id as usize;
    log.batch(at..at + 1).events().next().unwrap_or_else(|| unreachable!("a batch of one event has one"))
}

fn state_of(history: &History) -> DeviceState {
    let (nodes, graph, memories) = (history.nodes(), &history.graph, &history.memories);
    let (k, carried) = (graph.needs.neighbours, memories.mailbox.carried());
    let mut state = DeviceState {
        memory: memories.rows.to_vec(),
        updated: ticks(&memories.updated),
        others: vec![0.0; nodes * carried],
        degree: graph.adjacency.degrees().iter().map(|&degree| degree as u32).collect(),
        pending: graph.pending.iter().map(|event| event.id.0).collect(),
        ..DeviceState::default()
    };
    for node in (0..nodes as u32).map(NodeId) {
        let mail = memories.mailbox.newest(node);
        let stated = |mail: &Mail| StateMail {
            event: mail.event.0,
            other: mail.other.0,
            time: mail.time.0,
            since: mail.since.0,
        };
        state.mail.push(mail.map(stated));
        let [(_, row), _] = memories.mailbox.runs(node);
        state.others[node.index() * carried..][..row.len()].copy_from_slice(row);
    }
    if !graph.needs.keeps_all() && k > 0 {
        state.ring = vec![StateLink::default(); nodes * k];
        let mut newer = vec![0; nodes];
        let links: Vec<(NodeId, Link)> = graph.adjacency.links(0..graph.nodes()).collect();
        for &(owner, link) in links.iter().rev() {
            let newer = &mut newer[owner.index()];
            *newer += 1;
            let at = (graph.adjacency.degree(owner) as usize - *newer) % k;
            state.ring[owner.index() * k + at] =
                StateLink { node: link.node.0, time: link.time.0, event: link.event.0 };
        }
    }
    state
}

fn restore_mail(memories: &mut Memories, state: &DeviceState) {
    let carried = memories.mailbox.carried();
    for (node, mail) in state.mail.iter().enumerate() {
        let Some(StateMail { event, other, time, since }) = *mail else { continue };
        let mail = Mail::new(EventId(event), NodeId(other), Timestamp(time), Timestamp(since));
        memories.mailbox.put(NodeId(node as u32), mail, &state.others[node * carried..][..carried]);
    }
}

/// Gives every node the events that its degree counts: those of the ring, or its first ones in the log.
fn restore_adjacency(graph: &mut Graph, state: &DeviceState, log: &EventLog) {
    let k = graph.needs.neighbours;
    let degrees: Vec<u64> = state.degree.iter().copied().map(u64::from).collect();
    let mut links: Vec<(NodeId, Link)> = Vec::new();
    if !graph.needs.keeps_all() && k == 0 {
        let restored = graph.adjacency.restore(&degrees, &[]);
        return restored.unwrap_or_else(|node| unreachable!("node {node:?} has a degree"));
    }
    for (n, &degree) in degrees.iter().enumerate() {
        let owner = NodeId(n as u32);
        if state.ring.is_empty() {
            links.extend(log.by_node().of_node(owner)[..degree as usize].iter().map(|&link| (owner, link)));
            continue;
        }
        links.extend((degree.saturating_sub(k as u64)..degree).map(|i| {
            let StateLink { node, time, event } = state.ring[n * k + i as usize % k];
            let direction = if log.src()[event as usize] == owner { Link::OUTGOING } else { Link::INCOMING };
            (owner, Link { time: Timestamp(time), event: EventId(event), node: NodeId(node), direction })
        }));
    }
    let restored = graph.adjacency.restore(&degrees, &links);
    restored.unwrap_or_else(|node| unreachable!("node {node:?} has no more links than its degree"));
}

/// A log sorted by node, as arrays.
struct ByNode {
    starts: Vec<u32>,
    node: Vec<u32>,
    time: Vec<i64>,
    event: Vec<u32>,
}

impl ByNode {
    fn of(log: &EventLog, nodes: usize) -> ByNode {
        let sorted = Arc::clone(log.by_node());
        let mut all = ByNode { starts: vec![0], node: Vec::new(), time: Vec::new(), event: Vec::new() };
        for owner in (0..nodes as u32).map(NodeId) {
            for link in sorted.of_node(owner) {
                all.node.push(link.node.0);
                all.time.push(link.time.0);
                all.event.push(link.event.0 as u32);
            }
            all.starts.push(all.node.len() as u32);
        }
        all
    }

    fn as_log(&self) -> DeviceLog<'_> {
        DeviceLog { starts: &self.starts, node: &self.node, time: &self.time, event: &self.event }
    }
}
