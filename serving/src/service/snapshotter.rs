//! Decides when a snapshot is due, and takes it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::Serialize;

use crate::log::entry_after;
use crate::service::snapshots::{SnapshotMetadata, SnapshotStore};
use crate::service::spec::SnapshotSpec;
use crate::service::{Core, ServiceError};
use crate::{ArtifactError, Engine, Position};

/// A command to the snapshot thread.
#[derive(Debug)]
pub(crate) enum SnapshotCommand {
    /// A snapshot is due.
    Due,
    /// Take a snapshot now.
    Now(Sender<Result<Snapshot, ServiceError>>),
    /// End the thread.
    End,
}

/// A snapshot that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its number; the newest has the largest.
    pub number: u64,
    /// Number of events it has seen.
    pub log_seq: u64,
}

/// The snapshot store, and counters since the last snapshot.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    /// Locked while a snapshot is written.
    snapshot_store: Mutex<SnapshotStore>,
    /// The identity of the artifact from which the service was started.
    base: String,
    orders: Mutex<Sender<SnapshotCommand>>,
    since: Mutex<SinceSnapshot>,
}

#[derive(Debug)]
struct SinceSnapshot {
    last: Option<SnapshotMetadata>,
    /// Events and bytes logged since the last snapshot was ordered.
    events: u64,
    bytes: u64,
    /// Duration of the last snapshot.
    took: Duration,
    failures: u64,
}

/// Numbers about snapshots.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SnapshotStatus {
    /// The newest snapshot.
    pub last: Option<Snapshot>,
    /// Seconds since it was taken, by the wall clock; 0 if the clock has gone backwards.
    pub age_seconds: u64,
    /// Seconds it took to write the last snapshot.
    pub took_seconds: f64,
    /// Snapshots that could not be written since the service was opened.
    pub failures: u64,
}

impl Snapshotter {
    pub fn new(
        snapshot_store: SnapshotStore,
        base: String,
        last: Option<SnapshotMetadata>,
        orders: Sender<SnapshotCommand>,
    ) -> Snapshotter {
        let since = SinceSnapshot { last, events: 0, bytes: 0, took: Duration::ZERO, failures: 0 };
        Snapshotter {
            snapshot_store: Mutex::new(snapshot_store),
            base,
            orders: Mutex::new(orders),
            since: Mutex::new(since),
        }
    }

    fn since(&self) -> MutexGuard<'_, SinceSnapshot> {
        // Ignoring poison is safe: counters are valid at any time.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn snapshot_store(&self) -> MutexGuard<'_, SnapshotStore> {
        // Ignoring poison is safe: an incomplete snapshot is not in the store.
        self.snapshot_store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn send(&self, order: SnapshotCommand) {
        // If the thread has ended, the caller notices by its own channel.
        let _ = self.orders.lock().unwrap_or_else(PoisonError::into_inner).send(order);
    }

    /// Counts applied events and bytes, and orders a snapshot when enough have been counted.
    pub fn count(&self, events: u64, bytes: u64, spec: &SnapshotSpec) {
        let mut since = self.since();
        since.events += events;
        since.bytes += bytes;
        let over = |most: u64, now: u64| most > 0 && now >= most;
        if over(spec.every_events, since.events) || over(spec.every_mib << 20, since.bytes) {
            (since.events, since.bytes) = (0, 0);
            drop(since);
            self.send(SnapshotCommand::Due);
        }
    }

    pub fn status(&self, spec: &SnapshotSpec) -> SnapshotStatus {
        let since = self.since();
        let now = (spec.clock.0)().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        SnapshotStatus {
            last: since.last.as_ref().map(|note| Snapshot { number: note.number, log_seq: note.log_seq }),
            age_seconds: since.last.as_ref().map_or(0, |note| now.saturating_sub(note.taken_at)),
            took_seconds: since.took.as_secs_f64(),
            failures: since.failures,
        }
    }
}

impl Core {
    /// Takes snapshots as they are ordered, until the end.
    pub(super) fn run_snapshots(&self, orders: &Receiver<SnapshotCommand>) {
        loop {
            let order = match self.spec.snapshots.interval() {
                Some(interval) => orders.recv_timeout(interval),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(SnapshotCommand::Now(reply)) => {
                    // The caller may be gone.
                    let _ = reply.send(self.snapshot_now());
                }
                Ok(SnapshotCommand::Due) | Err(RecvTimeoutError::Timeout) => self.snapshot_if_new(),
                Ok(SnapshotCommand::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if self.spec.snapshots.at_drain {
            self.snapshot_if_new();
        }
    }

    /// Takes a snapshot, unless nothing has changed since the last one. A failure is logged; the next try is when the
    /// next snapshot is due.
    fn snapshot_if_new(&self) {
        let last = self.snapshotter.since().last.as_ref().map(|note| note.log_seq);
        if last == Some(self.engine().position().log_seq) {
            return;
        }
        if let Err(error) = self.snapshot_now() {
            tracing::warn!("no snapshot was taken: {error}");
        }
    }

    pub(super) fn snapshot_now(&self) -> Result<Snapshot, ServiceError> {
        let snapshot_store = self.snapshotter.snapshot_store();
        self.write_snapshot(&snapshot_store, &self.engine())
    }

    /// Writes a snapshot of `engine` to the store, and truncates the log.
    pub(super) fn write_snapshot(
        &self,
        snapshot_store: &SnapshotStore,
        engine: &Arc<Engine>,
    ) -> Result<Snapshot, ServiceError> {
        let started = Instant::now();
        let taken_at = (self.spec.snapshots.clock.0)().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let place = |log_seq| {
            entry_after(&*self.log, log_seq).map_err(|error| ArtifactError::Inconsistent { fact: error.to_string() })
        };
        let waiting_from = || self.waiting_seq().map(place).transpose();
        let written = snapshot_store.write(engine, &self.snapshotter.base, taken_at, place, waiting_from);
        let mut since = self.snapshotter.since();
        match written {
            Ok(note) => {
                since.took = started.elapsed();
                since.last = Some(note.clone());
                drop(since);
                if let Some(oldest) = snapshot_store.prune()? {
                    self.truncate_log(oldest.log_seq)?;
                }
                Ok(Snapshot { number: note.number, log_seq: note.log_seq })
            }
            Err(error) => {
                since.failures += 1;
                Err(error.into())
            }
        }
    }

    /// The number of events before the first entry in the log with events that wait.
    fn waiting_seq(&self) -> Option<u64> {
        self.queue.lock().waiting.oldest_seq()
    }

    /// Truncates the log: removes entries that no snapshot, setting or previous model needs.
    fn truncate_log(&self, oldest: u64) -> Result<(), ServiceError> {
        let Some(kept) = self.spec.log.keep_events else { return Ok(()) };
        let needed =
            self.previous().as_ref().map_or(oldest, |previous: &Arc<Engine>| previous.position().log_seq.min(oldest));
        let needed = self.waiting_seq().map_or(needed, |waiting| needed.min(waiting));
        let seq = needed.min(self.progress.now().durable_seq.saturating_sub(kept));
        match entry_after(&*self.log, seq) {
            Ok(place) => Ok(self.log.truncate_before(place)?),
            // These were truncated before.
            Err(crate::log::ReplayError::Gap { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The position that reads see.
    pub(super) fn applied_position(&self) -> Position {
        self.progress.now().applied
    }
}
