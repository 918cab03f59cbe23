//! Two threads: one writes the log, one lets happen what is written.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::ingest::{Ack, IngestError};
use super::line::Waiting;
use super::{Core, Readiness};
use crate::log::{Act, Entry, LogError};
use crate::{Engine, RequestError};

/// Requests whose entries are on the disk.
type Logged = Vec<Waiting>;

/// Starts the threads of a service. They end once its line is closed and empty.
pub(super) fn start(core: &Arc<Core>) -> io::Result<Vec<JoinHandle<()>>> {
    let (logged, to_apply) = channel();
    let (writing, applying) = (core.clone(), core.clone());
    Ok(vec![
        Builder::new().name("log".into()).spawn(move || writing.write(&logged))?,
        Builder::new().name("apply".into()).spawn(move || applying.apply(&to_apply))?,
    ])
}

impl Core {
    /// Writes what stands in line, as many requests as there are in one append.
    fn write(&self, logged: &Sender<Logged>) {
        while let Some(mut group) = self.line.take(self.spec.log.group) {
            let entries: Vec<Entry> = group.iter().filter_map(|waiting| waiting.entry.clone()).collect();
            match if entries.is_empty() { Ok(()) } else { self.log.append(&entries) } {
                Ok(()) => self.written(&entries, &mut group),
                Err(error) => {
                    self.turn_away(group, &error);
                    continue;
                }
            }
            if logged.send(group).is_err() {
                return;
            }
        }
    }

    fn written(&self, entries: &[Entry], group: &mut [Waiting]) {
        if let Some(last) = entries.last() {
            self.counts.logged();
            self.progress.durable(last.next_seq());
            let mut tail = self.line.tail();
            for (id, _) in entries.iter().flat_map(Entry::ids) {
                tail.ids.remove(id);
            }
        }
        for waiting in group.iter_mut().filter(|waiting| waiting.ack == Ack::Durable) {
            let receipt = waiting.receipt;
            waiting.answer(Ok(super::Receipt { position: self.progress.now().applied, ..receipt }));
        }
    }

    /// Tells all who were in line that the log failed: what joined later was numbered after what is lost.
    fn turn_away(&self, group: Vec<Waiting>, error: &LogError) {
        self.counts.log_failed();
        let lost: usize = group.iter().map(Waiting::events).sum();
        self.line.leave(lost);
        let durable = self.progress.now().durable_seq;
        let behind = self.line.reset(durable, None);
        for mut waiting in group.into_iter().chain(behind) {
            waiting.answer(Err(IngestError::Log(error.clone())));
        }
    }

    /// Catches up with the log, then applies what comes.
    fn apply(&self, to_apply: &Receiver<Logged>) {
        let engine = self.engine();
        {
            let mut tail = self.line.tail();
            tail.next_seq = engine.position().log_seq;
            tail.newest = engine.history().newest();
        }
        self.readiness.set(Readiness::Ready);
        for group in to_apply {
            for mut waiting in group {
                if let Some(entry) = &waiting.entry {
                    if let Err(error) = happen(&self.engine(), entry) {
                        self.readiness.set(Readiness::Broken(format!("a logged event cannot be applied: {error}")));
                        return;
                    }
                    self.progress.applied(self.engine().position());
                }
                self.line.leave(waiting.events());
                let receipt = waiting.receipt;
                waiting.answer(Ok(super::Receipt { position: self.progress.now().applied, ..receipt }));
            }
        }
    }
}

/// Does to the engine's history what the log says was done.
pub(super) fn happen(engine: &Engine, entry: &Entry) -> Result<(), RequestError> {
    match &entry.act {
        Act::Events { events, granularity, .. } => engine.observe(events, *granularity).map(drop),
    }
}
