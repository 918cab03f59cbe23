//! The line events stand in: who comes after whom is decided here, before anything is written.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tempograph_framework::Timestamp;
use tokio::sync::oneshot;

use crate::log::Entry;
use crate::request::Position;
use crate::service::ingest::{Ack, IngestResult, Receipt};

/// One request in line.
#[derive(Debug)]
pub(crate) struct QueuedRequest {
    /// What it writes; nothing if all it brought is known already, or there was nothing in it. It waits for its turn all the same:
    /// by then what it repeats is as durable as itself.
    pub entry: Option<Entry>,
    pub ack: Ack,
    pub receipt: Receipt,
    /// Time of the newest event up to and with it.
    pub newest: Option<Timestamp>,
    pub answer: Option<oneshot::Sender<IngestResult>>,
}

impl QueuedRequest {
    pub fn events(&self) -> usize {
        self.entry.as_ref().map_or(0, Entry::events)
    }

    /// What nobody waits for: an entry that was found in the log.
    pub fn recovered(entry: Entry, newest: Option<Timestamp>) -> QueuedRequest {
        let position = Position { log_seq: 0, version: 0 };
        let receipt = Receipt { first_seq: entry.first_seq, accepted: 0, duplicates: 0, late: 0, position };
        QueuedRequest { entry: Some(entry), ack: Ack::Applied, receipt, newest, answer: None }
    }

    pub fn acknowledge(&mut self, outcome: IngestResult) {
        if let Some(answer) = self.answer.take() {
            // The sender may have gone.
            let _ = answer.send(outcome);
        }
    }
}

/// What comes after the last event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SeqPoint {
    /// Number of the next event.
    pub seq: u64,
    /// Time of the newest so far.
    pub newest: Option<Timestamp>,
}

/// The end of the line.
#[derive(Debug, Default)]
pub(crate) struct QueueState {
    /// What comes next, with what stands in line counted in.
    pub next: SeqPoint,
    /// The same of the log.
    appended: SeqPoint,
    /// Events in line that have an id, and their numbers.
    pub ids: FxHashMap<String, u64>,
    queue: VecDeque<QueuedRequest>,
    /// Events admitted and not applied yet.
    pub pending_events: usize,
    /// Nobody joins any more, and who waits for the line's next is told when it is empty.
    closed: bool,
}

/// A line with one end where requests join and one where the log takes them.
#[derive(Debug, Default)]
pub(crate) struct IngestQueue {
    state: Mutex<QueueState>,
    not_empty: Condvar,
}

impl IngestQueue {
    pub fn starting_at(start: SeqPoint) -> IngestQueue {
        let line = IngestQueue::default();
        line.start(start);
        line
    }

    /// The end of the line, for who wants to join or to look.
    pub fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Joining is the last thing done under the lock, and done whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request at the end.
    pub fn enqueue(&self, mut state: MutexGuard<'_, QueueState>, waiting: QueuedRequest) {
        state.pending_events += waiting.events();
        state.queue.push_back(waiting);
        drop(state);
        self.not_empty.notify_one();
    }

    /// Takes requests from the front, at least one and up to `most` events; `None` once the line is closed and empty.
    pub fn dequeue(&self, most: usize) -> Option<Vec<QueuedRequest>> {
        let mut state = self.lock();
        loop {
            match (state.queue.is_empty(), state.closed) {
                (false, _) => break,
                (true, true) => return None,
                (true, false) => {}
            }
            state = self.not_empty.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut taken, mut events) = (Vec::new(), 0);
        while let Some(next) = state.queue.front()
            && (taken.is_empty() || events + next.events() <= most)
        {
            events += next.events();
            taken.extend(state.queue.pop_front());
        }
        Some(taken)
    }

    /// Puts both ends where the log's is, before anybody joins.
    pub fn start(&self, start: SeqPoint) {
        let mut state = self.lock();
        (state.next, state.appended) = (start, start);
    }

    /// Says that `group`, taken last, is in the log.
    pub fn mark_appended(&self, group: &[QueuedRequest]) {
        let mut state = self.lock();
        for waiting in group {
            let Some(entry) = &waiting.entry else { continue };
            // What is found in the log may be no event.
            state.appended = SeqPoint { seq: entry.next_seq(), newest: waiting.newest.or(state.appended.newest) };
            for (id, _) in entry.ids() {
                state.ids.remove(id);
            }
        }
    }

    /// Says that `group`, which did not stand in line, is in the log.
    pub fn insert_appended(&self, group: &[QueuedRequest]) {
        self.lock().pending_events += group.iter().map(QueuedRequest::events).sum::<usize>();
        self.mark_appended(group);
    }

    /// Empties the line and puts its end back where the log's is: `group`, taken last, is not in the log. Returns all who stood there.
    pub fn reset(&self, mut group: Vec<QueuedRequest>) -> Vec<QueuedRequest> {
        let mut state = self.lock();
        group.extend(std::mem::take(&mut state.queue));
        state.pending_events -= group.iter().map(QueuedRequest::events).sum::<usize>();
        state.ids.clear();
        state.next = state.appended;
        group
    }

    /// Says that so many events in line have been applied, or never will be.
    pub fn release(&self, events: usize) {
        self.lock().pending_events -= events;
    }

    /// Lets nobody join any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.not_empty.notify_all();
    }
}
