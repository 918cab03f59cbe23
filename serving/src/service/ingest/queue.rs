//! The ingest queue. It decides the order of events before they are appended to the log.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tempograph_framework::Timestamp;
use tokio::sync::oneshot;

use crate::log::Entry;
use crate::request::Position;
use crate::service::ingest::{Ack, IngestResult, Receipt};

/// One request in the queue.
#[derive(Debug)]
pub(crate) struct QueuedRequest {
    /// The entry to append; `None` if the request has no new events. Such a request waits in the queue all the same:
    /// when it is acknowledged, the events it repeats are as durable as the acknowledgement says.
    pub entry: Option<Entry>,
    pub ack: Ack,
    pub receipt: Receipt,
    /// Time of the newest event up to and including this request.
    pub newest: Option<Timestamp>,
    pub answer: Option<oneshot::Sender<IngestResult>>,
}

impl QueuedRequest {
    pub fn events(&self) -> usize {
        self.entry.as_ref().map_or(0, Entry::events)
    }

    /// A request without a waiting sender: an entry that was read from the log.
    pub fn recovered(entry: Entry, newest: Option<Timestamp>) -> QueuedRequest {
        let position = Position { log_seq: 0, version: 0 };
        let receipt = Receipt { first_seq: entry.first_seq, accepted: 0, duplicates: 0, late: 0, position };
        QueuedRequest { entry: Some(entry), ack: Ack::Applied, receipt, newest, answer: None }
    }

    pub fn acknowledge(&mut self, outcome: IngestResult) {
        if let Some(answer) = self.answer.take() {
            // The receiver may be gone.
            let _ = answer.send(outcome);
        }
    }
}

/// The position after the last event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SeqPoint {
    /// Number of the next event.
    pub seq: u64,
    /// Time of the newest event so far.
    pub newest: Option<Timestamp>,
}

/// The state of the queue.
#[derive(Debug, Default)]
pub(crate) struct QueueState {
    /// The next position, counting the queued events.
    pub next: SeqPoint,
    /// The same, counting only the events in the log.
    appended: SeqPoint,
    /// Ids of queued events, with the events' numbers.
    pub ids: FxHashMap<String, u64>,
    queue: VecDeque<QueuedRequest>,
    /// Events submitted and not applied yet.
    pub pending_events: usize,
    /// No more requests are accepted. `dequeue` returns `None` once the queue is empty.
    closed: bool,
}

/// A queue of requests: requests are enqueued at the back, and the log dequeues from the front.
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

    /// Locks the state, to enqueue or to read.
    pub fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Ignoring poison is safe: enqueueing is the last thing done under the lock, and cannot stop half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues a request at the back.
    pub fn enqueue(&self, mut state: MutexGuard<'_, QueueState>, waiting: QueuedRequest) {
        state.pending_events += waiting.events();
        state.queue.push_back(waiting);
        drop(state);
        self.not_empty.notify_one();
    }

    /// Dequeues at least one request and up to `most` events. Waits if the queue is empty; returns `None` once it is
    /// closed and empty.
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

    /// Sets both positions to the end of the log, before the first request.
    pub fn start(&self, start: SeqPoint) {
        let mut state = self.lock();
        (state.next, state.appended) = (start, start);
    }

    /// Records that `group`, dequeued last, is in the log.
    pub fn mark_appended(&self, group: &[QueuedRequest]) {
        let mut state = self.lock();
        for waiting in group {
            let Some(entry) = &waiting.entry else { continue };
            // The entry may hold no event, for example a retraction.
            state.appended = SeqPoint { seq: entry.next_seq(), newest: waiting.newest.or(state.appended.newest) };
            for (id, _) in entry.ids() {
                state.ids.remove(id);
            }
        }
    }

    /// Records that `group`, which was not in the queue, is in the log.
    pub fn insert_appended(&self, group: &[QueuedRequest]) {
        self.lock().pending_events += group.iter().map(QueuedRequest::events).sum::<usize>();
        self.mark_appended(group);
    }

    /// Empties the queue and resets its position to the end of the log: `group`, dequeued last, is not in the log.
    /// Returns all requests that were waiting.
    pub fn reset(&self, mut group: Vec<QueuedRequest>) -> Vec<QueuedRequest> {
        let mut state = self.lock();
        group.extend(std::mem::take(&mut state.queue));
        state.pending_events -= group.iter().map(QueuedRequest::events).sum::<usize>();
        state.ids.clear();
        state.next = state.appended;
        group
    }

    /// Records that this many queued events have been applied, or never will be.
    pub fn release(&self, events: usize) {
        self.lock().pending_events -= events;
    }

    /// Closes the queue for new requests.
    pub fn close(&self) {
        self.lock().closed = true;
        self.not_empty.notify_all();
    }
}
