//! The service: a log of record, the engine it feeds, and snapshots of both.
pub(crate) mod erase;
mod follow;
mod ingest;
mod open;
mod reload;
mod schema;
pub(crate) mod snapshots;
mod snapshotter;
mod spec;
mod status;
mod threads;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Instant;

use self::ingest::failing::LogHealth;
pub use self::ingest::progress::LogProgress;
use self::ingest::progress::Progress;
use self::ingest::queue::{IngestQueue, QueuedRequest, SeqPoint};
pub use self::ingest::readiness::Readiness;
use self::ingest::readiness::SharedReadiness;
pub use self::ingest::{Ack, IngestError, IngestRequest, LONGEST_ID, Receipt, Ticket};
pub use self::reload::Reloaded;
use self::schema::EventSchema;
pub use self::snapshotter::{Snapshot, SnapshotStatus};
use self::snapshotter::{SnapshotCommand, Snapshotter};
pub use self::spec::{Clock, Late, ServiceSpec, SnapshotSpec};
use self::status::Counts;
pub use self::status::Status;
use crate::log::{Entry, Log, LogError, Mutation, ReplayError};
use crate::{ArtifactError, Engine, Position};

/// A model and its history that outlive the process: every event is written to the log of record before it happens.
///
/// All methods may be called from many threads. Those that wait say so, and are not for threads that drive tasks.
#[derive(Debug)]
pub struct Service {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the service's threads share.
#[derive(Debug)]
struct Core {
    spec: ServiceSpec,
    engine: RwLock<Arc<Engine>>,
    /// The one that answered before the last change.
    previous: Mutex<Option<Arc<Engine>>>,
    log: Arc<dyn Log>,
    /// Place of the next entry to apply.
    next_entry: Mutex<u64>,
    schema: EventSchema,
    queue: IngestQueue,
    progress: Progress,
    readiness: SharedReadiness,
    /// Whether following is to end.
    promoting: AtomicBool,
    counts: Counts,
    log_health: LogHealth,
    /// Events applied since idle nodes were last looked for.
    events_since_expiry: AtomicU64,
    /// The look for them that was ordered last.
    expiry: Mutex<Option<Ticket>>,
    snapshotter: Snapshotter,
}

/// Why a service cannot be opened, or does not do what it is told.
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
    /// The settings make no sense.
    #[error("{key} is {value}; {wanted}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// The service and what it is told to do do not go together.
    #[error("{0}")]
    Conflict(String),
    /// A thread cannot be had.
    #[error("the service cannot run: {0}")]
    Run(#[from] std::io::Error),
}

impl Service {
    /// Whether events are taken and answers are of now.
    pub fn readiness(&self) -> Readiness {
        self.core.readiness.get()
    }

    /// Waits until the service is ready or never will be, or the deadline has passed; says which.
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

    /// Lets events happen, and waits for what the request's `ack` asks for.
    ///
    /// # Errors
    /// [`IngestError`]: none of the events was taken.
    pub fn ingest(&self, request: IngestRequest) -> Result<Receipt, IngestError> {
        self.submit(request)?.wait()
    }

    /// Puts events in line without waiting for them to be written; the ticket is for the receipt.
    ///
    /// # Errors
    /// [`IngestError`]: none of the events was taken.
    pub fn submit(&self, request: IngestRequest) -> Result<Ticket, IngestError> {
        self.core.submit(request).inspect_err(|error| self.core.counts.refused(error))
    }

    /// The engine that answers now. Who holds on to it after a reload reads the past.
    pub fn engine(&self) -> Arc<Engine> {
        self.core.engine()
    }

    /// What reads see.
    pub fn position(&self) -> Position {
        self.core.progress.now().applied
    }

    /// Events on the disk.
    pub fn durable_seq(&self) -> u64 {
        self.core.progress.now().durable_seq
    }

    /// Events taken, durable or not.
    pub fn submitted_seq(&self) -> u64 {
        self.core.queue.lock().next.seq
    }

    /// Waits until reads see at least `min_seq` events; `None` where they do not before the deadline.
    pub fn wait_for(&self, min_seq: u64, deadline: Instant) -> Option<Position> {
        self.core.progress.wait(deadline, |reached| reached.applied.log_seq >= min_seq).map(|reached| reached.applied)
    }

    /// As [`wait_for`](Service::wait_for), in a task and as long as it takes.
    pub async fn reach(&self, min_seq: u64) -> Position {
        self.core.progress.reach(|reached| reached.applied.log_seq >= min_seq).await.applied
    }

    /// Warms the weights of another artifact by replaying the log from where it stands, then lets it answer. Waits; reads and events
    /// go on meanwhile. Once this returns, a service that is opened again from the same artifact as this one has the new weights.
    ///
    /// The model that answered before stays in memory, for [`rollback`](Service::rollback).
    ///
    /// # Errors
    /// [`ServiceError`]: the model that answered goes on answering.
    pub fn reload(&self, artifact: &Path) -> Result<Reloaded, ServiceError> {
        self.core.reload(artifact)
    }

    /// Lets the model that answered before the last change answer again, once it has caught up with the log. Waits.
    ///
    /// # Errors
    /// [`ServiceError`]: the model that answered goes on answering. There is none to go back to before a change.
    pub fn rollback(&self) -> Result<Reloaded, ServiceError> {
        self.core.rollback()
    }

    /// Takes a snapshot now, and waits for it.
    ///
    /// # Errors
    /// [`ServiceError`]: the snapshots there were are still there.
    pub fn snapshot(&self) -> Result<Snapshot, ServiceError> {
        let (reply, taken) = channel();
        self.core.snapshotter.send(SnapshotCommand::Now(reply));
        taken.recv().unwrap_or_else(|_| {
            Err(ServiceError::Conflict("no snapshots are taken any more: the server is stopping".into()))
        })
    }

    /// Every number there is about the service.
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// Takes no more events, finishes those in line, takes a snapshot where the settings say so, and ends the threads. Waits for all of
    /// it, but not beyond the deadline; says whether it was done in time. What is durable is so in any case.
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
    /// As [`drain`](Service::drain), however long it takes.
    fn drop(&mut self) {
        self.stop();
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            // A panic of a thread has been told by the readiness.
            let _ = thread.join();
        }
    }
}

impl Core {
    fn engine(&self) -> Arc<Engine> {
        // The pointer is replaced whole.
        self.engine.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ready(&self) -> Result<(), IngestError> {
        match self.readiness.get() {
            Readiness::Ready => Ok(()),
            other => Err(IngestError::NotReady(other)),
        }
    }

    fn submit(&self, request: IngestRequest) -> Result<Ticket, IngestError> {
        self.ready()?;
        let (ack, granularity) = (request.ack, request.granularity);
        let validated = self.schema.validate(request)?;
        // Ids cannot be looked up in a log that is closed.
        self.log_health.retry(|| self.log.reopen())?;
        let mut state = self.queue.lock();
        // Whoever closed the line has said so before.
        self.ready()?;
        let (queued, most) = (state.pending_events, self.spec.log.queue);
        if queued > 0 && queued + validated.request.events.len() > most {
            return Err(IngestError::Full { queued, most });
        }
        let sequenced = self.schema.sequence(validated, &state, &*self.log, self.spec.late)?;
        let accepted = sequenced.events.len() as u64;
        let receipt = Receipt {
            first_seq: state.next.seq,
            accepted,
            duplicates: sequenced.duplicates,
            late: sequenced.late.len() as u64,
            position: self.applied_position(),
        };
        let mutation = Mutation::Events { events: sequenced.events, granularity, late: sequenced.late };
        let entry = (accepted > 0).then_some(Entry { first_seq: state.next.seq, mutation });
        if let Some(entry) = &entry {
            state.ids.extend(entry.ids().map(|(id, seq)| (id.to_owned(), seq)));
        }
        state.next = SeqPoint { seq: state.next.seq + accepted, newest: sequenced.newest };
        let (answer, ticket) = Ticket::new();
        let mut waiting = QueuedRequest { entry, ack, receipt, newest: sequenced.newest, answer: Some(answer) };
        // While the log fails nothing is promised that is known not to be kept.
        if ack == Ack::Accepted && !self.log_health.is_failing() {
            waiting.acknowledge(Ok(receipt));
        }
        self.queue.enqueue(state, waiting);
        self.counts.submitted(&receipt);
        Ok(ticket)
    }
}
