//! The ingest queue. It decides the order of events before they are appended to the log.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tempograph_framework::Timestamp;
use tokio::sync::oneshot;

use crate::log::{Entry, KnownId, Mutation};
use crate::request::Position;
use crate::service::ingest::reorder::{WaitingChange, WaitingEvents};
use crate::service::ingest::{Ack, IngestResult, Receipt};

/// How often it is looked whether an event has waited long enough for its time.
const MOMENT: Duration = Duration::from_millis(20);

/// One request in the queue.
#[derive(Debug)]
pub(crate) struct QueuedRequest {
    /// The entry to append; `None` if the request has no new events. Such a request waits in the queue all the same:
    /// when it is acknowledged, the events it repeats are as durable as the acknowledgement says.
    pub entry: Option<Entry>,
    pub ack: Ack,
    pub receipt: Receipt,
    /// The newest times up to and including this request.
    pub newest: NewestTimes,
    /// How it has changed which events wait.
    pub change: WaitingChange,
    pub answer: Option<oneshot::Sender<IngestResult>>,
}

impl QueuedRequest {
    pub fn events(&self) -> usize {
        self.entry.as_ref().map_or(0, Entry::events)
    }

    /// A request without a waiting sender: an entry that was read from the log.
    pub fn recovered(entry: Entry, newest: NewestTimes) -> QueuedRequest {
        let receipt = Receipt::new(entry.first_seq, Position { log_seq: 0, version: 0 });
        QueuedRequest::of(entry, receipt, newest)
    }

    /// A request without a waiting sender.
    pub fn of(entry: Entry, receipt: Receipt, newest: NewestTimes) -> QueuedRequest {
        let change = WaitingChange::None;
        QueuedRequest { entry: Some(entry), ack: Ack::Applied, receipt, newest, change, answer: None }
    }

    /// Events that it brings to the log.
    fn size(&self) -> usize {
        match self.entry.as_ref().map(|entry| &entry.mutation) {
            Some(Mutation::Hold { events, .. }) => events.len(),
            _ => self.events(),
        }
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
    /// The newest times so far.
    pub newest: NewestTimes,
}

/// Times of the newest events.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct NewestTimes {
    /// Of those that are applied, or will be.
    pub applied: Option<Timestamp>,
    /// Of all that were submitted, those that wait included.
    pub submitted: Option<Timestamp>,
}

impl NewestTimes {
    /// Nothing waits.
    pub fn applied(newest: Option<Timestamp>) -> NewestTimes {
        NewestTimes { applied: newest, submitted: newest }
    }
}

/// The state of the queue.
#[derive(Debug, Default)]
pub(crate) struct QueueState {
    /// The next position, counting the queued events.
    pub next: SeqPoint,
    /// The same, counting only the events in the log.
    appended: SeqPoint,
    /// Ids of queued events.
    pub ids: FxHashMap<String, KnownId>,
    /// Events that wait to be applied in order of time.
    pub waiting: WaitingEvents,
    queue: VecDeque<QueuedRequest>,
    /// Events submitted and not applied yet.
    pub pending_events: usize,
    /// No more requests are accepted. `dequeue` returns `None` once the queue is empty.
    closed: bool,
}

impl QueueState {
    /// Enqueues a request at the back, for a caller that lets the queue know of it.
    pub fn push(&mut self, waiting: QueuedRequest) {
        self.pending_events += waiting.events();
        self.queue.push_back(waiting);
    }

    fn mark_appended(&mut self, group: &[QueuedRequest]) {
        for waiting in group {
            let Some(entry) = &waiting.entry else { continue };
            // The entry may hold no event, for example a retraction.
            self.appended = SeqPoint { seq: entry.next_seq(), newest: waiting.newest };
            self.waiting.logged(entry);
            for id in entry.ids() {
                self.ids.remove(id);
            }
        }
    }

    /// Sets both positions to the end of the log.
    pub fn start(&mut self, start: SeqPoint) {
        (self.next, self.appended) = (start, start);
    }

    /// Whether no more requests are accepted.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The newest times of the events in the log.
    pub fn appended_newest(&self) -> NewestTimes {
        self.appended.newest
    }

    /// Whether everything that was submitted is in the log.
    pub fn is_appended(&self) -> bool {
        self.next.seq == self.appended.seq && self.queue.is_empty()
    }
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
        state.push(waiting);
        drop(state);
        self.not_empty.notify_one();
    }

    /// Lets the log know that requests were pushed.
    pub fn notify(&self) {
        self.not_empty.notify_one();
    }

    /// Dequeues at least one request and up to `most` events. Waits if the queue is empty; returns `None` once it is
    /// closed and empty. While events wait for their time, or if `is_failing`, it waits only for a moment, and returns no
    /// request then.
    pub fn dequeue(&self, most: usize, is_failing: bool) -> Option<Vec<QueuedRequest>> {
        let mut state = self.lock();
        loop {
            match (state.queue.is_empty(), state.closed) {
                (false, _) => break,
                (true, true) => return None,
                (true, false) if is_failing || !state.waiting.is_empty() => {
                    state = self.not_empty.wait_timeout(state, MOMENT).unwrap_or_else(PoisonError::into_inner).0;
                    break;
                }
                (true, false) => {}
            }
            state = self.not_empty.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut taken, mut events) = (Vec::new(), 0);
        while let Some(next) = state.queue.front()
            && (taken.is_empty() || events + next.size() <= most)
        {
            events += next.size();
            taken.extend(state.queue.pop_front());
        }
        Some(taken)
    }

    /// Sets both positions to the end of the log, before the first request.
    pub fn start(&self, start: SeqPoint) {
        self.lock().start(start);
    }

    /// Records that `group`, dequeued last, is in the log.
    pub fn mark_appended(&self, group: &[QueuedRequest]) {
        self.lock().mark_appended(group);
    }

    /// Empties the queue and resets its position to the end of the log: `group`, dequeued last, is not in the log, and
    /// `found`, which was not in the queue, is; `times` are those of the events of its entries. Returns all requests that
    /// were waiting.
    pub fn reset(
        &self,
        mut group: Vec<QueuedRequest>,
        found: &[QueuedRequest],
        times: impl Fn(&Entry) -> Vec<Timestamp>,
    ) -> Vec<QueuedRequest> {
        let mut state = self.lock();
        group.extend(std::mem::take(&mut state.queue));
        state.pending_events -= group.iter().map(QueuedRequest::events).sum::<usize>();
        for waiting in group.iter_mut().rev() {
            let change = std::mem::take(&mut waiting.change);
            state.waiting.undo(change, waiting.entry.as_ref());
        }
        state.ids.clear();
        for entry in found.iter().filter_map(|waiting| waiting.entry.as_ref()) {
            state.waiting.replay(entry, &times(entry));
        }
        state.pending_events += found.iter().map(QueuedRequest::events).sum::<usize>();
        state.mark_appended(found);
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
