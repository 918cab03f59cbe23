//! The history of a model that trains on a device: on the device, or in host memory if it does not fit.

use tempograph_kernels::PairPlan;
use tempograph_kernels::cube::{DeviceView, Matrix, NodeRows, PendingRead};
use tempograph_kernels::tensor::CubeRuntime;

use crate::history::device::view_upload::{DeviceViewSource, HostViewSource, node_rows, remaining_bytes};
use crate::{
    Batch, EventLog, History, HostFallback, NodeId, PairFact, PurposeDraw, Queries, ResidentHistory, Update, View,
};

/// The update of a batch, on its way from a device to the host.
pub struct UpdateDownload<'a> {
    memory: Option<PendingRead<'a>>,
    mail: Option<PendingRead<'a>>,
}

impl<'a> UpdateDownload<'a> {
    /// Starts to download the new memories of the nodes that the current batch touches, if they have any, and its mail
    /// rows, where the model gives them.
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

/// A history of a model that trains on a device.
#[allow(clippy::large_enum_variant, reason = "a model has one")]
pub enum DeviceOrHostHistory<R: CubeRuntime> {
    /// The history is on the device, and a step waits for nothing.
    Device(ResidentHistory<R>),
    /// The history is in host memory.
    Host(HostHistory<R>),
}

/// A history in host memory. The host reads the view, and what a step needs of it goes to the device in one upload.
/// The new memories of the nodes that the batch touches come back. A step waits for these, since the next view may
/// show them.
pub struct HostHistory<R: CubeRuntime> {
    history: History,
    /// The view that was read last.
    view: View,
    /// The nodes that the current batch touches, ascending.
    touched: Vec<NodeId>,
    sender: HostViewSource<R>,
    fallback: HostFallback,
}

/// Where the inputs of a training are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Why the history is in host memory; `None` if it is on the device.
    pub fallback: Option<HostFallback>,
    /// Whether edge features are on the device, or there are none.
    pub features: bool,
    /// Whether transfers go through pinned memory.
    pub pinned: bool,
}

impl Placement {
    /// Whether everything is on the device, so that a step waits for nothing.
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
    /// The caller passes a history to [`enter`](DeviceOrHostHistory::enter) before the first query.
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
    /// Reads the past of the roots of `queries` with `batch` as the current batch, as [`History::view`] does.
    ///
    /// # Panics
    /// If a node is not below the number of nodes.
    pub fn look(&mut self, queries: &Queries, batch: &Batch<'_>, chance: PurposeDraw) -> DeviceView<R> {
        match self {
            Self::Device(resident) => resident.look(queries, batch, chance),
            Self::Host(sent) => sent.look(queries, batch, chance),
        }
    }

    /// The pairs of `queries` as rows of the embeddings of the view read for them: one row for each root, or one for
    /// the roots that see the same past.
    pub fn pairs(&self, queries: &Queries) -> PairPlan {
        match self {
            Self::Device(_) => queries.pair_plan(|root| root),
            Self::Host(sent) => sent.view.pair_plan(queries),
        }
    }

    /// The facts about the pairs of a [`look`](DeviceOrHostHistory::look) with the same arguments, if the model needs
    /// them.
    pub fn facts(&mut self, queries: &Queries, batch: &Batch<'_>, chance: PurposeDraw) -> &[PairFact] {
        match self {
            Self::Device(resident) => resident.facts(queries, batch, chance),
            Self::Host(sent) => &sent.view.pairs,
        }
    }

    /// Starts to download what [`observe`](DeviceOrHostHistory::observe) will read of the new memories and, where the
    /// model gives them, the mail rows. Call it early: the device then computes while the host observes the batch.
    pub fn ask<'a>(
        &self,
        past: &'a DeviceView<R>,
        memory: &Matrix<R>,
        said: Option<&Matrix<R>>,
    ) -> Option<UpdateDownload<'a>> {
        matches!(self, Self::Host(_)).then(|| UpdateDownload::ask(past, memory, said))
    }

    /// Observes `batch`, for which `past` was read; `past`'s rows have new memories, and their download may be under
    /// way. `said` are the mail rows, where the model gives them.
    ///
    /// # Panics
    /// If an event is earlier than one already observed.
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

    /// Goes on from the state of `history` after its events of `log`.
    ///
    /// # Panics
    /// If it has other nodes or needs.
    pub fn enter(&mut self, history: History, log: &EventLog) {
        match self {
            Self::Device(resident) => resident.enter(&history, log),
            Self::Host(sent) => sent.history = history,
        }
    }

    /// Returns the state as a history with `log` attached; call `enter` before going on. Waits for the device.
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
