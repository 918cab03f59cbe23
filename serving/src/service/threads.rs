//! Three threads: one writes the log, one lets happen what is written, one takes snapshots.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::log::{Entry, Happened, LogError, ReplayError, happen, replay};
use crate::service::ingest::line::{Start, Waiting};
use crate::service::ingest::{Ack, IngestError, Receipt};
use crate::service::keeper::Order;
use crate::service::{Core, Readiness};

/// Requests whose entries are on the disk, and how many bytes they take there.
struct Logged {
    group: Vec<Waiting>,
    bytes: u64,
}

/// Starts the threads of a service. They end once its line is closed and empty.
pub(super) fn start(core: &Arc<Core>, orders: Receiver<Order>) -> io::Result<Vec<JoinHandle<()>>> {
    let (logged, to_apply) = channel();
    let thread = |name: &str, work: Box<dyn FnOnce(&Core) + Send>| {
        let core = core.clone();
        Builder::new().name(name.into()).spawn(move || {
            let _guard = Guard(&core);
            work(&core);
        })
    };
    Ok(vec![
        thread("log", Box::new(move |core| core.write(&logged)))?,
        thread("apply", Box::new(move |core| core.recover_and_apply(&to_apply)))?,
        thread("snapshots", Box::new(move |core| core.keep(&orders)))?,
    ])
}

/// Says so when a thread ends by a panic.
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
    /// Writes what stands in line, as many requests as there are in one append.
    fn write(&self, logged: &Sender<Logged>) {
        // Where the log ended after the last append; before the first one another server may write.
        let mut end = None;
        while let Some(group) = self.line.take(self.spec.log.group) {
            let entries: Vec<Entry> = group.iter().filter_map(|waiting| waiting.entry.clone()).collect();
            let place = end.unwrap_or_else(|| self.log.kept().end);
            let done = match self.append(&entries, place, logged) {
                Ok(bytes) => logged.send(Logged { group: self.written(&entries, group), bytes }),
                Err(error) => {
                    self.turn_away(group, &error);
                    Ok(())
                }
            };
            if done.is_err() {
                return;
            }
            end = Some(self.log.kept().end);
        }
    }

    /// Writes to a log that may have failed before, and ended at `place`.
    fn append(&self, entries: &[Entry], place: u64, logged: &Sender<Logged>) -> Result<u64, LogError> {
        if entries.is_empty() {
            return Ok(0);
        }
        if self.failing.now() {
            self.log.reopen()?;
            self.adopt(place, logged)?;
        }
        let bytes = self.log.append(entries)?;
        self.failing.clear();
        self.counts.groups.fetch_add(1, Relaxed);
        Ok(bytes)
    }

    /// Lets happen what a failed write has left in the log all the same. Those in line are numbered anew then, and are told so.
    fn adopt(&self, place: u64, logged: &Sender<Logged>) -> Result<(), LogError> {
        if self.log.kept().end == place {
            return Ok(());
        }
        let found = self.log.read(place, usize::MAX)?;
        let group: Vec<_> = found.iter().map(|entry| Waiting::found(entry.clone(), self.facts.newest(entry))).collect();
        self.line.adopt(&group);
        self.progress.durable(found.last().map_or(0, Entry::next_seq));
        // Where nobody applies any more, the next who is sent anything says so.
        let _ = logged.send(Logged { group, bytes: 0 });
        let fact = "events of a write that had failed were found in it; tell these again".into();
        Err(LogError::Storage { place: format!("from entry {place} on"), fact })
    }

    /// Answers those who wait for the disk.
    fn written(&self, entries: &[Entry], mut group: Vec<Waiting>) -> Vec<Waiting> {
        if let Some(last) = entries.last() {
            self.progress.durable(last.next_seq());
            self.line.logged(&group);
        }
        let position = self.stands();
        for waiting in group.iter_mut().filter(|waiting| waiting.ack == Ack::Durable) {
            let receipt = waiting.receipt;
            waiting.answer(Ok(Receipt { position, ..receipt }));
        }
        group
    }

    /// Tells all who were in line that the log failed: what joined later was numbered after what is not there.
    fn turn_away(&self, group: Vec<Waiting>, error: &LogError) {
        self.failing.set(error.clone());
        self.counts.log_failures.fetch_add(1, Relaxed);
        tracing::warn!("events are refused: {error}");
        for mut waiting in self.line.reset(group) {
            waiting.answer(Err(IngestError::Log(error.clone())));
        }
    }

    /// Catches up with the log, then applies what comes.
    fn recover_and_apply(&self, to_apply: &Receiver<Logged>) {
        if let Err(error) = self.recover() {
            self.readiness.set(Readiness::Broken { why: error.to_string() });
        } else {
            self.apply(to_apply);
        }
        self.keeper.order(Order::End);
    }

    fn recover(&self) -> Result<(), ReplayError> {
        let engine = self.engine();
        let (from, of) = (engine.position().log_seq, self.progress.now().durable_seq);
        let mut place = self.applying();
        let end = self.log.kept().end.max(*place);
        *place = replay(&*self.log, &engine, *place, end, |position| {
            self.progress.applied(position);
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
        self.line.start(Start { seq, newest });
        self.readiness.advance(Readiness::Ready);
        Ok(())
    }

    fn apply(&self, to_apply: &Receiver<Logged>) {
        for Logged { group, bytes } in to_apply {
            let events: usize = group.iter().map(Waiting::events).sum();
            for waiting in group {
                if let Err(error) = self.apply_one(waiting) {
                    self.readiness.set(Readiness::Broken { why: error });
                    return;
                }
            }
            if events > 0 {
                self.keeper.count(events as u64, bytes, &self.spec.snapshots);
                self.forget_idle(events as u64);
            }
        }
    }

    fn apply_one(&self, mut waiting: Waiting) -> Result<(), String> {
        if let Some(entry) = &waiting.entry {
            let mut place = self.applying();
            let happened = happen(&self.engine(), entry);
            *place += 1;
            drop(place);
            match happened {
                Ok(Happened { position, changed }) => {
                    self.progress.applied(position);
                    waiting.receipt.accepted += changed;
                }
                Err(error) => {
                    let error = error.to_string();
                    waiting.answer(Err(IngestError::NotApplied(error.clone())));
                    return Err(error);
                }
            }
        }
        self.line.leave(waiting.events());
        if self.look_further(&mut waiting) {
            return Ok(());
        }
        let receipt = waiting.receipt;
        waiting.answer(Ok(Receipt { position: self.stands(), ..receipt }));
        Ok(())
    }

    /// Held while an entry is applied: the place of the next.
    pub(super) fn applying(&self) -> MutexGuard<'_, u64> {
        // A panic while an entry is applied leaves the engine broken, which refuses the next.
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
