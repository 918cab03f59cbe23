//! Where the history is that a model trains with on a device: there, or in host memory where there is no room for it.

use tempograph_kernels::PairPlan;
use tempograph_kernels::cube::{DeviceView, Matrix, NodeRows, PendingRead};
use tempograph_kernels::tensor::CubeRuntime;

use crate::history::device::view_upload::{DeviceViewSource, HostViewSource, node_rows, remaining_bytes};
use crate::{
    Batch, EventLog, History, HostFallback, NodeId, PairFact, PurposeDraw, Queries, ResidentHistory, Update, View,
};

/// What observing a batch will write, on its way from a device to the host.
pub struct UpdateDownload<'a> {
    memory: Option<PendingRead<'a>>,
    mail: Option<PendingRead<'a>>,
}

impl<'a> UpdateDownload<'a> {
    /// Asks for the new memories of the nodes that the batch in hand touches, if they have any, and for what its mail says, where the model gives that.
    pub fn ask<R: CubeRuntime>(past: &'a DeviceView<R>, memory: &Matrix<R>, said: Option<&Matrix<R>>) -> Self {
        let memory = (memory.columns() > 0).then(|| past.read_touched_later(memory));
        Self { memory, mail: said.map(|said| past.ask(said)) }
    }

    /// The update, of these `nodes`. Waits for the device.
    pub fn wait(self, nodes: Vec<NodeId>) -> Update {
        let [memory, mail] = [self.memory, self.mail].map(|arriving| arriving.map_or_else(Vec::new, PendingRead::wait));
        Update { nodes, memory, mail }
    }
}

/// A history that a model trains with on a device.
#[allow(clippy::large_enum_variant, reason = "a model has one")]
pub enum DeviceOrHostHistory<R: CubeRuntime> {
    /// It is on the device, and a step waits for nothing.
    Device(ResidentHistory<R>),
    /// It is in host memory.
    Host(HostHistory<R>),
}

/// A history in host memory. The host looks, what a step reads of the view goes to the device in one upload, and the new memories of the nodes that
/// the batch touches come back: a step waits for these, since the next one may be shown them.
pub struct HostHistory<R: CubeRuntime> {
    history: History,
    /// What was looked at last.
    view: View,
    /// The nodes that the batch in hand touches, ascending.
    touched: Vec<NodeId>,
    sender: HostViewSource<R>,
    fallback: HostFallback,
}

/// Where a training keeps what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Why the history is in host memory; nothing where it is on the device.
    pub fallback: Option<HostFallback>,
    /// Whether edge features are on the device, or there are none.
    pub features: bool,
    /// Whether what travels goes through pinned memory.
    pub pinned: bool,
}

impl Placement {
    /// Whether all is on the device, so that a step waits for nothing.
    pub fn is_resident(&self) -> bool {
        self.fallback.is_none() && self.features
    }
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let way = if self.pinned { "pinned memory" } else { "memory that its driver cannot pin" };
        match (self.fallback, self.features) {
            (None, true) => write!(f, "the history is there"),
            (None, false) => {
                write!(f, "the history is there, edge features have no room and come row by row through {way}")
            }
            (Some(why), features) => {
                write!(f, "the history stays in host memory ({why}), and what a step reads goes there through {way}")?;
                if features { Ok(()) } else { write!(f, ", rows of edge features too") }
            }
        }
    }
}

impl<R: CubeRuntime> DeviceViewSource<R> for DeviceOrHostHistory<R> {
    /// Before anything is asked a history is to [`enter`](DeviceOrHostHistory::enter).
    fn new(device: &R::Device, history: &History, log: &EventLog, columns: [usize; 2], room: u64) -> Self {
        let resident = match remaining_bytes(history, columns, room) {
            Ok(left) => ResidentHistory::new(device, history, log, left),
            Err(too_large) => Err(HostFallback::TooLarge(too_large)),
        };
        resident.map_or_else(
            |why| {
                let sender = HostViewSource::new(device, history, log, columns, room);
                Self::Host(HostHistory {
                    history: history.without_room(),
                    view: View::default(),
                    touched: Vec::new(),
                    sender,
                    fallback: why,
                })
            },
            Self::Device,
        )
    }

    fn placement(&self) -> Placement {
        match self {
            Self::Device(resident) => Placement {
                fallback: None,
                features: resident.device.is_resident(),
                pinned: resident.device.uses_pinned_memory(),
            },
            Self::Host(sent) => Placement { fallback: Some(sent.fallback), ..sent.sender.placement() },
        }
    }

    fn node_rows(&self, device: &R::Device, history: &History, columns: [usize; 2]) -> [Option<NodeRows<R>>; 2] {
        match self {
            Self::Device(_) => node_rows(device, history, columns, false),
            Self::Host(sent) => sent.sender.node_rows(device, history, columns),
        }
    }
}

impl<R: CubeRuntime> DeviceOrHostHistory<R> {
    /// Reads the past of the roots of `queries` while `batch` is in hand, as [`History::view`] does.
    ///
    /// # Panics
    /// If a node is not below the number of nodes.
    pub fn look(&mut self, queries: &Queries, batch: &Batch<'_>, chance: PurposeDraw) -> DeviceView<R> {
        match self {
            Self::Device(resident) => resident.look(queries, batch, chance),
            Self::Host(sent) => sent.look(queries, batch, chance),
        }
    }

    /// The pairs of `queries` as rows of the embeddings of what was looked at for them: of all roots, or of those that see different pasts.
    pub fn pairs(&self, queries: &Queries) -> PairPlan {
        match self {
            Self::Device(_) => queries.pair_plan(|root| root),
            Self::Host(sent) => sent.view.pair_plan(queries),
        }
    }

    /// The facts about the pairs that [`look`](DeviceOrHostHistory::look) was asked for with the same arguments, if there is need of them.
    pub fn facts(&mut self, queries: &Queries, batch: &Batch<'_>, chance: PurposeDraw) -> &[PairFact] {
        match self {
            Self::Device(resident) => resident.facts(queries, batch, chance),
            Self::Host(sent) => &sent.view.pairs,
        }
    }

    /// Asks for what [`observe`](DeviceOrHostHistory::observe) will read of the new memories and of what mail says, where the model gives that: early, so
    /// that the device goes on computing while the host lets the batch happen.
    pub fn ask<'a>(
        &self,
        past: &'a DeviceView<R>,
        memory: &Matrix<R>,
        said: Option<&Matrix<R>>,
    ) -> Option<UpdateDownload<'a>> {
        matches!(self, Self::Host(_)).then(|| UpdateDownload::ask(past, memory, said))
    }

    /// Lets `batch` happen, which `past` was read for and whose rows have new memories, those asked for on their way. `said` is what mail says, where
    /// the model gives that.
    ///
    /// # Panics
    /// Where an event is earlier than one that has happened.
    pub fn observe(
        &mut self,
        batch: &Batch<'_>,
        past: &DeviceView<R>,
        (memory, said): (&Matrix<R>, Option<&Matrix<R>>),
        asked: Option<UpdateDownload<'_>>,
    ) {
        match self {
            Self::Device(resident) => resident.observe(batch, past, memory, said),
            Self::Host(sent) => {
                sent.observe(batch, asked.unwrap_or_else(|| UpdateDownload::ask(past, memory, said)));
            }
        }
    }

    /// Goes on from what `history` has seen of `log`.
    ///
    /// # Panics
    /// Where it has other nodes or needs.
    pub fn enter(&mut self, history: History, log: &EventLog) {
        match self {
            Self::Device(resident) => resident.enter(&history, log),
            Self::Host(sent) => sent.history = history,
        }
    }

    /// Gives back what has happened, as a history that follows `log`; it has to enter again before it goes on. Waits for the device.
    pub fn leave(&mut self, log: &EventLog) -> History {
        match self {
            Self::Device(resident) => resident.leave(log),
            Self::Host(sent) => sent.history.take(),
        }
    }
}

impl<R: CubeRuntime> HostHistory<R> {
    fn look(&mut self, queries: &Queries, batch: &Batch<'_>, chance: PurposeDraw) -> DeviceView<R> {
        let Self { history, view, touched, sender, .. } = self;
        history.view_into(queries, Some(batch), chance, view);
        batch.nodes_into(touched);
        sender.send(queries, view, touched)
    }

    fn observe(&mut self, batch: &Batch<'_>, new: UpdateDownload<'_>) {
        let update = new.wait(self.touched.clone());
        self.history.observe(batch, &update).unwrap_or_else(|error| panic!("a log's batches come in order: {error}"));
    }
}
