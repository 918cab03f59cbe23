//! The service: a log of record, the engine it feeds, and snapshots of both.
pub(crate) mod erase;
mod ingest;
mod reload;
pub(crate) mod run;
mod schema;
pub(crate) mod snapshots;
mod snapshotter;
mod spec;
mod status;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Instant, UNIX_EPOCH};

use tokio::sync::oneshot::Sender;

use self::ingest::IngestResult;
use self::ingest::budget::Budget;
pub use self::ingest::budget::{BudgetSpec, BudgetStatus};
use self::ingest::event_time::TimeBounds;
pub use self::ingest::event_time::{Clock, EventClock, EventTimeSpec};
use self::ingest::failing::LogHealth;
pub use self::ingest::progress::LogProgress;
use self::ingest::progress::Progress;
use self::ingest::queue::{IngestQueue, QueueState, QueuedRequest, SeqPoint};
pub use self::ingest::readiness::Readiness;
use self::ingest::readiness::SharedReadiness;
use self::ingest::refused::RefusedList;
pub use self::ingest::refused::{Refusal, RefusedEvent, RefusedStatus};
use self::ingest::reorder::WaitingChange;
pub use self::ingest::{Ack, IngestError, IngestRequest, LONGEST_ID, OnError, Receipt, Ticket};
pub use self::reload::Reloaded;
use self::schema::{EventSchema, Sequenced, TimeRules};
pub use self::snapshotter::{Snapshot, SnapshotStatus};
use self::snapshotter::{SnapshotCommand, Snapshotter};
pub use self::spec::{Late, ServiceSpec, SnapshotSpec};
use self::status::Counts;
pub use self::status::Status;
use crate::log::{Entry, Log, LogError, Mutation, ReplayError};
use crate::request::{Granularity, NewEvent, RequestError};
use crate::{ArtifactError, Engine, Position};

/// A model and a history that outlive the process: every event is appended to the log of record before it is applied.
///
/// All methods may be called from many threads. Methods that wait say so; do not call those from threads that drive
/// async tasks.
#[derive(Debug)]
pub struct Service {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// State that the service's threads share.
#[derive(Debug)]
struct Core {
    spec: ServiceSpec,
    engine: RwLock<Arc<Engine>>,
    /// The engine that answered before the last reload or rollback.
    previous: Mutex<Option<Arc<Engine>>>,
    log: Arc<dyn Log>,
    /// Log position of the next entry to apply.
    next_entry: Mutex<u64>,
    schema: EventSchema,
    bounds: TimeBounds,
    budget: Budget,
    /// Time of the newest event of the artifact, and the number of its events.
    artifact_end: SeqPoint,
    /// Log position from which the events that wait are found.
    waiting_from: u64,
    refused: RefusedList,
    queue: IngestQueue,
    progress: Progress,
    readiness: SharedReadiness,
    /// Whether to stop following another server's log.
    promoting: AtomicBool,
    counts: Counts,
    log_health: LogHealth,
    /// Events applied since the last search for idle nodes.
    events_since_expiry: AtomicU64,
    /// The last expiry that was ordered.
    expiry: Mutex<Option<Ticket>>,
    snapshotter: Snapshotter,
}

/// Why a service cannot be opened, or an operation on it fails.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// An artifact or a snapshot cannot be opened or written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The log of record cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A history cannot catch up with the log of record.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A setting is invalid.
    #[error("{key} is {value}; {wanted}")]
    Setting {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The required value.
        wanted: &'static str,
    },
    /// The operation is not possible in the service's present state.
    #[error("{0}")]
    Conflict(String),
    /// A thread cannot be started.
    #[error("the service cannot run: {0}")]
    Run(#[from] std::io::Error),
}

impl Service {
    /// Whether the service accepts events and its answers are current.
    pub fn readiness(&self) -> Readiness {
        self.core.readiness.get()
    }

    /// Waits until the service is ready or never will be, or until the deadline. Returns the readiness then.
    pub fn wait_until_ready(&self, deadline: Instant) -> Readiness {
        loop {
            match self.readiness() {
                Readiness::Recovering { .. } if Instant::now() < deadline => {
                    std::thread::sleep(std::time::Duration::from_millis(2))
                }
                settled => return settled,
            }
        }
    }

    /// Submits events, and waits for the receipt as the request's `ack` says.
    ///
    /// # Errors
    /// [`IngestError`]: none of the events was accepted.
    pub fn ingest(&self, request: IngestRequest) -> Result<Receipt, IngestError> {
        self.submit(request)?.wait()
    }

    /// Submits events: validates, sequences and enqueues them. Does not wait for the log; the ticket resolves to the
    /// receipt.
    ///
    /// With [`OnError::Continue`], events that are invalid or out of time are refused one by one, and the ticket names
    /// them.
    ///
    /// # Errors
    /// [`IngestError`]: none of the events was accepted.
    pub fn submit(&self, request: IngestRequest) -> Result<Ticket, IngestError> {
        self.core.submit(request).inspect_err(|error| self.core.counts.refused(error))
    }

    /// Why the log of record cannot be written, if the last try failed.
    pub fn log_failure(&self) -> Option<LogError> {
        self.core.log_health.failure()
    }

    /// The engine that answers now. A caller that holds it after a reload reads the past.
    pub fn engine(&self) -> Arc<Engine> {
        self.core.engine()
    }

    /// The position that reads see.
    pub fn position(&self) -> Position {
        self.core.progress.now().applied
    }

    /// Number of events on the disk.
    pub fn durable_seq(&self) -> u64 {
        self.core.progress.now().durable_seq
    }

    /// Number of events accepted, durable or not.
    pub fn submitted_seq(&self) -> u64 {
        self.core.queue.lock().next.seq
    }

    /// Waits until reads see at least `min_seq` events. Returns `None` if the deadline passes first.
    pub fn wait_for(&self, min_seq: u64, deadline: Instant) -> Option<Position> {
        self.core.progress.wait(deadline, |reached| reached.applied.log_seq >= min_seq).map(|reached| reached.applied)
    }

    /// As [`wait_for`](Service::wait_for), but async and without a deadline.
    pub async fn reach(&self, min_seq: u64) -> Position {
        self.core.progress.reach(|reached| reached.applied.log_seq >= min_seq).await.applied
    }

    /// Warms the weights of another artifact by replaying the log from the artifact's position, then answers with them.
    /// Waits; reads and events continue meanwhile. Once this returns, a service opened again from the same artifact has
    /// the new weights.
    ///
    /// The previous model stays in memory, for [`rollback`](Service::rollback).
    ///
    /// # Errors
    /// [`ServiceError`]: the previous model continues to answer.
    pub fn reload(&self, artifact: &Path) -> Result<Reloaded, ServiceError> {
        self.core.reload(artifact)
    }

    /// Returns to the model that answered before the last reload, once it has caught up with the log. Waits.
    ///
    /// # Errors
    /// [`ServiceError`]: the present model continues to answer. Fails if there was no reload.
    pub fn rollback(&self) -> Result<Reloaded, ServiceError> {
        self.core.rollback()
    }

    /// Takes a snapshot now, and waits until it is written.
    ///
    /// # Errors
    /// [`ServiceError`]: the earlier snapshots are unchanged.
    pub fn snapshot(&self) -> Result<Snapshot, ServiceError> {
        let (reply, taken) = channel();
        self.core.snapshotter.send(SnapshotCommand::Now(reply));
        taken.recv().unwrap_or_else(|_| {
            Err(ServiceError::Conflict("no snapshots are taken any more: the server is stopping".into()))
        })
    }

    /// All numbers about the service.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// Accepts no more events, finishes those in the queue, takes a snapshot if the settings say so, and ends the
    /// threads. Waits until the deadline at the latest. Returns whether everything was done in time. Durable events
    /// stay durable in any case.
    pub fn drain(&self, deadline: Instant) -> bool {
        self.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().all(|thread| {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            thread.is_finished() && thread.join().is_ok()
        })
    }

    fn stop(&self) {
        self.core.readiness.set(Readiness::Draining);
        self.core.queue.close();
    }
}

impl Drop for Service {
    /// As [`drain`](Service::drain), without a deadline.
    fn drop(&mut self) {
        self.stop();
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            // The readiness already reports a panic of a thread.
            let _ = thread.join();
        }
    }
}

impl Core {
    fn engine(&self) -> Arc<Engine> {
        // Ignoring poison is safe: the pointer is replaced in one step.
        self.engine.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ready(&self) -> Result<(), IngestError> {
        match self.readiness.get() {
            Readiness::Ready => Ok(()),
            other => Err(IngestError::NotReady(other)),
        }
    }

    fn submit(&self, request: IngestRequest) -> Result<Ticket, IngestError> {
        self.submit_as(request, true)
    }

    /// As `submit`, for events that are in the list of refused events already.
    fn submit_again(&self, request: IngestRequest) -> Result<Ticket, IngestError> {
        self.submit_as(request, false)
    }

    fn submit_as(&self, request: IngestRequest, keep_refused: bool) -> Result<Ticket, IngestError> {
        self.ready()?;
        let (ack, granularity) = (request.ack, request.granularity);
        if self.spec.late == Late::Wait && granularity == Granularity::Batch {
            let problem = "is \"batch\", and this server applies events one by one, in order of time (late = \"wait\")";
            return Err(RequestError::invalid("granularity", problem).into());
        }
        self.budget.check()?;
        self.check_nodes(&request.events)?;
        let validated = self.schema.validate(request)?;
        // `sequence` looks up ids in the log, so a failed log is reopened first.
        self.log_health.retry(|| self.log.reopen())?;
        let mut state = self.queue.lock();
        // Checked again under the lock: the queue may have been closed meanwhile, and then the readiness says why.
        self.ready()?;
        let (queued, most) = (state.pending_events, self.spec.log.queue);
        if queued > 0 && queued + validated.len() > most {
            return Err(IngestError::Full { queued, most });
        }
        let rules = TimeRules { late: self.spec.late, bounds: &self.bounds };
        let mut sequenced = self.schema.sequence(validated, &state, &*self.log, &rules)?;
        let refused = std::mem::take(&mut sequenced.refused);
        if keep_refused && !refused.is_empty() {
            // Before any event is accepted: if they cannot be kept, the whole request fails.
            self.refused.add(&refused, self.now()).map_err(|error| self.cannot_keep(error))?;
        }
        let accepted = sequenced.events.len() as u64;
        let receipt = Receipt {
            accepted,
            duplicates: sequenced.duplicates,
            late: sequenced.late.len() as u64,
            refused: refused.len() as u64,
            ..Receipt::new(state.next.seq, self.applied_position())
        };
        let (answer, ticket) = Ticket::new();
        let receipt = match self.spec.late {
            Late::Wait => self.enqueue_to_wait(&mut state, sequenced, receipt, ack, answer),
            _ => self.enqueue_in_order(&mut state, sequenced, receipt, ack, answer, granularity),
        };
        drop(state);
        self.queue.notify();
        self.counts.submitted(&receipt);
        Ok(ticket.with_refusals(refused))
    }

    /// Checks the budget of nodes. It may be exceeded by the nodes of events that are in the queue.
    fn check_nodes(&self, events: &[NewEvent]) -> Result<(), IngestError> {
        let engine = self.engine();
        let nodes = engine.nodes() as u64;
        // Far from the budget, nothing is counted.
        if nodes + 2 * events.len() as u64 <= self.budget.most_nodes {
            return Ok(());
        }
        self.budget.check_nodes(nodes, || engine.new_nodes(events))
    }

    /// Enqueues events that are applied in the order of the queue.
    fn enqueue_in_order(
        &self,
        state: &mut QueueState,
        sequenced: Sequenced,
        receipt: Receipt,
        ack: Ack,
        answer: Sender<IngestResult>,
        granularity: Granularity,
    ) -> Receipt {
        let mutation = Mutation::Events { events: sequenced.events, granularity, late: sequenced.late };
        let entry = (receipt.accepted > 0).then_some(Entry { first_seq: state.next.seq, mutation });
        if let Some(entry) = &entry {
            state.ids.extend(entry.known_ids().map(|(id, known)| (id.to_owned(), known)));
        }
        state.next = SeqPoint { seq: state.next.seq + receipt.accepted, newest: sequenced.newest };
        self.push(state, entry, WaitingChange::None, receipt, ack, answer);
        receipt
    }

    /// Enqueues a request, and acknowledges it where its `ack` asks for no more.
    fn push(
        &self,
        state: &mut QueueState,
        entry: Option<Entry>,
        change: WaitingChange,
        receipt: Receipt,
        ack: Ack,
        answer: Sender<IngestResult>,
    ) {
        let newest = state.next.newest;
        let mut waiting = QueuedRequest { entry, ack, receipt, newest, change, answer: Some(answer) };
        // While the log fails, `accepted` is not promised: the events would probably be lost.
        if ack == Ack::Accepted && !self.log_health.is_failing() {
            waiting.acknowledge(Ok(receipt));
        }
        state.push(waiting);
    }

    /// Seconds since 1970 by the server's clock.
    fn now(&self) -> u64 {
        (self.spec.snapshots.clock.0)().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
    }

    fn cannot_keep(&self, error: std::io::Error) -> IngestError {
        let place = "the list of refused events".into();
        IngestError::Log(LogError::Storage { place, fact: error.to_string() })
    }
}
