//! Three threads: one appends to the log, one applies log entries, one takes snapshots.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::log::{Applied, Entry, LogError, ReplayError, apply_entry, replay};
use crate::service::ingest::queue::{NewestTimes, QueuedRequest, SeqPoint};
use crate::service::ingest::{Ack, IngestError, Receipt};
use crate::service::snapshotter::SnapshotCommand;
use crate::service::{Core, Readiness};

/// Requests whose entries are on the disk, and the size of the entries there in bytes.
struct AppendedGroup {
    group: Vec<QueuedRequest>,
    bytes: u64,
}

/// A failed append.
struct FailedAppend {
    error: LogError,
    /// Entries of an earlier append that had failed, and that are in the log all the same.
    found: Vec<Entry>,
}

impl From<LogError> for FailedAppend {
    fn from(error: LogError) -> FailedAppend {
        FailedAppend { error, found: Vec::new() }
    }
}

/// Starts the threads of a service. They end once the queue is closed and empty.
pub(super) fn start(core: &Arc<Core>, orders: Receiver<SnapshotCommand>) -> io::Result<Vec<JoinHandle<()>>> {
    let (logged, to_apply) = channel();
    let thread = |name: &str, work: Box<dyn FnOnce(&Core) + Send>| {
        let core = core.clone();
        Builder::new().name(name.into()).spawn(move || {
            let _guard = Guard(&core);
            work(&core);
        })
    };
    Ok(vec![
        thread("log", Box::new(move |core| core.append_queued(&logged)))?,
        thread("apply", Box::new(move |core| core.recover_then_apply(&to_apply)))?,
        thread("snapshots", Box::new(move |core| core.run_snapshots(&orders)))?,
    ])
}

/// Marks the service as broken when a thread ends by a panic.
struct Guard<'a>(&'a Core);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            self.0
                .readiness
                .set(Readiness::Broken { why: format!("the thread `{name}` has panicked, which is a bug") });
        }
    }
}

impl Core {
    /// Appends queued requests to the log, as many as there are in one append.
    fn append_queued(&self, logged: &Sender<AppendedGroup>) {
        // End of the log after the last append; `None` at first, because before the first append another server may
        // write.
        let mut end = None;
        while let Some(group) = self.queue.dequeue(self.spec.log.group, self.log_health.is_failing()) {
            self.release_overdue();
            let entries: Vec<Entry> = group.iter().filter_map(|waiting| waiting.entry.clone()).collect();
            let place = end.unwrap_or_else(|| self.log.retained().end);
            let done = match self.append(&entries, place) {
                _ if group.is_empty() => self.heal(place, logged),
                Ok(bytes) => logged.send(AppendedGroup { group: self.acknowledge_durable(&entries, group), bytes }),
                Err(failed) => self.reject_group(group, failed, logged),
            };
            if done.is_err() {
                return;
            }
            end = Some(self.log.retained().end);
        }
    }

    /// Appends to a log that may have failed before and ended at `place`.
    fn append(&self, entries: &[Entry], place: u64) -> Result<u64, FailedAppend> {
        if entries.is_empty() {
            return Ok(0);
        }
        if self.log_health.is_failing() {
            self.log.reopen()?;
            self.find_failed_append(place)?;
        }
        let bytes = self.log.append(entries)?;
        self.log_health.clear();
        self.counts.groups.fetch_add(1, Relaxed);
        Ok(bytes)
    }

    /// Tries a failed log without a request: a server that is not ready gets none.
    fn heal(&self, place: u64, logged: &Sender<AppendedGroup>) -> Result<(), SendError<AppendedGroup>> {
        if !self.log_health.is_failing() || self.log_health.retry(|| self.log.reopen()).is_err() {
            return Ok(());
        }
        match self.find_failed_append(place) {
            Ok(()) => {
                self.log_health.clear();
                Ok(())
            }
            Err(failed) => self.reject_group(Vec::new(), failed, logged),
        }
    }

    /// Finds entries that a failed append has left in the log. Queued requests have wrong numbers then, so they fail and
    /// must be submitted again.
    fn find_failed_append(&self, place: u64) -> Result<(), FailedAppend> {
        if self.log.retained().end == place {
            return Ok(());
        }
        let found = self.log.read(place, usize::MAX)?;
        let fact = "events of a write that had failed were found in it; submit these again".into();
        let error = LogError::Storage { place: format!("from entry {place} on"), fact };
        Err(FailedAppend { error, found })
    }

    /// Acknowledges the requests that wait for durability.
    fn acknowledge_durable(&self, entries: &[Entry], mut group: Vec<QueuedRequest>) -> Vec<QueuedRequest> {
        if let Some(last) = entries.last() {
            self.progress.set_durable(last.next_seq());
            self.queue.mark_appended(&group);
        }
        let position = self.applied_position();
        for waiting in group.iter_mut().filter(|waiting| waiting.ack == Ack::Durable) {
            let receipt = waiting.receipt;
            waiting.acknowledge(Ok(Receipt { position, ..receipt }));
        }
        group
    }

    /// Fails all queued requests: later ones were numbered after entries that are not in the log. Applies the entries of
    /// an earlier append that were found in it. An error means that the applying thread has ended.
    fn reject_group(
        &self,
        group: Vec<QueuedRequest>,
        failed: FailedAppend,
        logged: &Sender<AppendedGroup>,
    ) -> Result<(), SendError<AppendedGroup>> {
        let FailedAppend { error, found } = failed;
        self.log_health.set(error.clone());
        self.counts.log_failures.fetch_add(1, Relaxed);
        tracing::warn!("events are refused: {error}");
        let mut newest = self.queue.lock().appended_newest();
        let recover = |entry: &Entry| {
            newest = self.schema.newest_after(entry, newest);
            QueuedRequest::recovered(entry.clone(), newest)
        };
        let recovered: Vec<_> = found.iter().map(recover).collect();
        for mut waiting in self.queue.reset(group, &recovered, |entry| self.schema.times(entry)) {
            waiting.acknowledge(Err(IngestError::Log(error.clone())));
        }
        let Some(last) = found.last() else { return Ok(()) };
        self.progress.set_durable(last.next_seq());
        logged.send(AppendedGroup { group: recovered, bytes: 0 })
    }

    /// Catches up with the log, then applies new entries.
    fn recover_then_apply(&self, to_apply: &Receiver<AppendedGroup>) {
        if let Err(error) = self.recover() {
            self.readiness.set(Readiness::Broken { why: error.to_string() });
        } else {
            self.apply(to_apply);
        }
        self.snapshotter.send(SnapshotCommand::End);
    }

    fn recover(&self) -> Result<(), ReplayError> {
        let engine = self.engine();
        let (from, of) = (engine.position().log_seq, self.progress.now().durable_seq);
        let mut place = self.lock_next_entry();
        let end = self.log.retained().end.max(*place);
        *place = replay(&*self.log, &engine, *place, end, |position| {
            self.progress.set_applied(position);
            self.counts.replayed.store(position.log_seq - from, Relaxed);
            self.readiness.advance(Readiness::Recovering { applied: position.log_seq, of });
            match self.readiness.get() {
                Readiness::Draining => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?;
        drop(place);
        if self.spec.log.follow {
            self.follow()?;
        }
        let (seq, newest) = (self.progress.now().durable_seq, self.engine().history().newest());
        self.start_queue(SeqPoint { seq, newest: NewestTimes::applied(newest) })?;
        self.readiness.advance(Readiness::Ready);
        Ok(())
    }

    fn apply(&self, to_apply: &Receiver<AppendedGroup>) {
        for AppendedGroup { group, bytes } in to_apply {
            let events: usize = group.iter().map(QueuedRequest::events).sum();
            for waiting in group {
                if let Err(error) = self.apply_request(waiting) {
                    self.readiness.set(Readiness::Broken { why: error });
                    return;
                }
            }
            if events > 0 {
                self.snapshotter.count(events as u64, bytes, &self.spec.snapshots);
                self.expire_if_due(events as u64);
            }
        }
    }

    fn apply_request(&self, mut waiting: QueuedRequest) -> Result<(), String> {
        if let Some(entry) = &waiting.entry {
            let mut place = self.lock_next_entry();
            let applied = apply_entry(&self.engine(), entry);
            *place += 1;
            drop(place);
            match applied {
                Ok(Applied { position, changed }) => {
                    self.progress.set_applied(position);
                    waiting.receipt.accepted += changed;
                }
                Err(error) => {
                    let error = error.to_string();
                    waiting.acknowledge(Err(IngestError::NotApplied(error.clone())));
                    return Err(error);
                }
            }
        }
        self.queue.release(waiting.events());
        if self.continue_expiry(&mut waiting) {
            return Ok(());
        }
        let receipt = waiting.receipt;
        waiting.acknowledge(Ok(Receipt { position: self.applied_position(), ..receipt }));
        Ok(())
    }

    /// Locked while an entry is applied: the position of the next entry.
    pub(in crate::service) fn lock_next_entry(&self) -> MutexGuard<'_, u64> {
        // Ignoring poison is safe: a panic while an entry is applied leaves the engine broken, and the engine refuses
        // the next entry.
        self.next_entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
