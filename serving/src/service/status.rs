//! All numbers about a service.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;
use serde_json::Number;

use crate::request::{Position, RequestError};
use crate::service::ingest::{IngestError, Receipt};
use crate::service::snapshotter::SnapshotStatus;
use crate::service::{BudgetStatus, Core, Readiness, RefusedStatus};

/// Counters since the service was opened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    late: AtomicU64,
    late_refused: AtomicU64,
    refused: AtomicU64,
    refused_events: AtomicU64,
    full: AtomicU64,
    over_budget: AtomicU64,
    pub replayed: AtomicU64,
    pub log_failures: AtomicU64,
    pub groups: AtomicU64,
    passed_over: u64,
}

/// State and counters of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Whether the service answers.
    pub readiness: Readiness,
    /// Name of the weights that answer now.
    pub model: String,
    /// Number of events on the disk.
    pub durable_seq: u64,
    /// The position that reads see.
    pub applied: Position,
    /// Events in the queue, waiting to be appended and applied.
    pub queued: u64,
    /// Events that wait for their time.
    pub waiting: u64,
    /// Time of the newest event that is applied, in the unit of the times.
    pub newest: Option<Number>,
    /// Events of the log that were replayed when the service was opened.
    pub replayed: u64,
    /// Events accepted since the service was opened.
    pub accepted: u64,
    /// Events left out as duplicates.
    pub duplicates: u64,
    /// Late events that were applied at the newest time.
    pub late: u64,
    /// Requests refused for a late event.
    pub late_refused: u64,
    /// Requests refused for other invalid events.
    pub refused: u64,
    /// Events refused while others of their request were accepted.
    pub refused_events: u64,
    /// The list of these events.
    pub refused_list: RefusedStatus,
    /// Requests refused because the queue was full.
    pub full: u64,
    /// Times the log could not be written or read.
    pub log_failures: u64,
    /// Whether the last try failed.
    pub log_failing: bool,
    /// Flushes to the disk.
    pub groups: u64,
    /// Bytes of the log where it is stored.
    pub log_bytes: u64,
    /// The budgets.
    pub budget: BudgetStatus,
    /// Requests refused because a budget is used up.
    pub over_budget: u64,
    /// The snapshots.
    pub snapshots: SnapshotStatus,
    /// Snapshots that were damaged when the service was opened.
    pub passed_over: u64,
}

impl Counts {
    /// Zero counters, with the number of skipped snapshots.
    pub fn passing_over(snapshots: usize) -> Counts {
        Counts { passed_over: snapshots as u64, ..Counts::default() }
    }

    pub fn submitted(&self, receipt: &Receipt) {
        self.accepted.fetch_add(receipt.accepted, Relaxed);
        self.duplicates.fetch_add(receipt.duplicates, Relaxed);
        self.late.fetch_add(receipt.late, Relaxed);
        self.refused_events.fetch_add(receipt.refused, Relaxed);
    }

    pub fn refused(&self, error: &IngestError) {
        let counter = match error {
            IngestError::Refused(RequestError::Late { .. }) => &self.late_refused,
            IngestError::Refused(_) => &self.refused,
            IngestError::Full { .. } => &self.full,
            IngestError::OverBudget { .. } => &self.over_budget,
            IngestError::Log(_) => &self.log_failures,
            IngestError::NotReady(_) | IngestError::NotApplied(_) => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}

impl Core {
    pub fn status(&self) -> Status {
        let (counts, reached) = (&self.counts, self.progress.now());
        let engine = self.engine();
        let (pending, waiting) = {
            let state = self.queue.lock();
            (state.pending_events, state.waiting.len())
        };
        Status {
            readiness: self.readiness.get(),
            model: self.engine().manifest().model_version(),
            durable_seq: reached.durable_seq,
            applied: reached.applied,
            queued: pending as u64,
            waiting: waiting as u64,
            newest: self.engine().newest(),
            replayed: counts.replayed.load(Relaxed),
            accepted: counts.accepted.load(Relaxed),
            duplicates: counts.duplicates.load(Relaxed),
            late: counts.late.load(Relaxed),
            late_refused: counts.late_refused.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            refused_events: counts.refused_events.load(Relaxed),
            refused_list: self.refused.status(),
            full: counts.full.load(Relaxed),
            log_failures: counts.log_failures.load(Relaxed),
            log_failing: self.log_health.is_failing(),
            groups: counts.groups.load(Relaxed),
            log_bytes: self.log.bytes(),
            budget: self.budget.status(engine.nodes() as u64, engine.feature_bytes() as u64),
            over_budget: counts.over_budget.load(Relaxed),
            snapshots: self.snapshotter.status(&self.spec.snapshots),
            passed_over: counts.passed_over,
        }
    }
}
