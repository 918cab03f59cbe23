//! Applies `late = "wait"`: events wait in the log of record until their time has come.

use std::time::Duration;

use tempograph_framework::Timestamp;
use tokio::sync::oneshot::Sender;

use crate::log::{Entry, LogError, Mutation};
use crate::service::ingest::queue::{NewestTimes, QueueState, QueuedRequest, SeqPoint};
use crate::service::ingest::reorder::WaitingChange;
use crate::service::ingest::{Ack, IngestResult, Receipt};
use crate::service::schema::Sequenced;
use crate::service::{Core, Late};

/// Most events of an entry that applies events which waited.
const RELEASED_AT_ONCE: usize = 4096;
/// Entries of the log that are read at a time.
const READ_AT_ONCE: usize = 4096;

impl Core {
    /// Enqueues events that wait, and those whose time has come with them.
    pub(in crate::service) fn enqueue_to_wait(
        &self,
        state: &mut QueueState,
        sequenced: Sequenced,
        receipt: Receipt,
        ack: Ack,
        answer: Sender<IngestResult>,
    ) -> Receipt {
        state.next.newest = sequenced.newest;
        if sequenced.events.is_empty() {
            self.push(state, None, WaitingChange::None, receipt, ack, answer);
            return receipt;
        }
        let (mutation, change) = state.waiting.hold(sequenced.events, &sequenced.times);
        let entry = Entry { first_seq: state.next.seq, mutation };
        let receipt = Receipt { waiting: receipt.accepted, ..receipt };
        self.push(state, Some(entry), change, receipt, ack, answer);
        self.release_due(state);
        receipt
    }

    /// Enqueues the events whose time has come: those that are older than the newest by the window, and the oldest of
    /// those that are too many.
    fn release_due(&self, state: &mut QueueState) {
        let window = self.bounds.ticks(self.spec.event_time.window);
        let most = self.spec.event_time.max_waiting;
        let over = state.waiting.len().saturating_sub(most);
        let until = state.next.newest.submitted.map(|newest| Timestamp(newest.0.saturating_sub(window)));
        let due = self.release(state, until, most);
        if over > due {
            tracing::warn!("{} events were applied before their time: more than {most} wait", over - due);
        }
    }

    /// Enqueues the events up to a time, and those that are more than `most`. Returns how many were of that time.
    fn release(&self, state: &mut QueueState, until: Option<Timestamp>, most: usize) -> usize {
        let mut due = 0;
        while let Some((mutation, change)) = state.waiting.release(until, most, RELEASED_AT_ONCE) {
            let entry = Entry { first_seq: state.next.seq, mutation };
            if let WaitingChange::Released(keys) = &change {
                due += keys.iter().filter(|key| until.is_some_and(|until| key.0 <= until)).count();
                let applied = keys.last().map(|key| key.0);
                let newest = NewestTimes { applied: applied.max(state.next.newest.applied), ..state.next.newest };
                state.next = SeqPoint { seq: entry.next_seq(), newest };
            }
            state.ids.extend(entry.known_ids().map(|(id, known)| (id.to_owned(), known)));
            let receipt = Receipt::new(entry.first_seq, self.applied_position());
            state.push(QueuedRequest { change, ..QueuedRequest::of(entry, receipt, state.next.newest) });
        }
        due
    }

    /// Enqueues the events that have waited too long by the clock, and all before them in time.
    pub(in crate::service) fn release_overdue(&self) {
        let mut state = self.queue.lock();
        if state.waiting.is_empty() || state.is_closed() || self.ready().is_err() {
            return;
        }
        let longest = Duration::from_millis(self.spec.event_time.max_wait_ms);
        if let Some(until) = state.waiting.overdue(longest) {
            self.release(&mut state, Some(until), usize::MAX);
            drop(state);
            self.queue.notify();
        }
    }

    /// Enqueues the retraction of events that wait under these ids. Returns how many there were.
    pub(in crate::service) fn drop_waiting(&self, state: &mut QueueState, ids: &[&str]) -> Option<QueuedRequest> {
        let (mutation, change) = state.waiting.drop_ids(ids.iter().copied())?;
        let applied = state.next.newest.applied;
        state.next.newest.submitted = applied.max(state.waiting.newest());
        let entry = Entry { first_seq: state.next.seq, mutation };
        let receipt = Receipt::new(entry.first_seq, self.applied_position());
        Some(QueuedRequest { change, ..QueuedRequest::of(entry, receipt, state.next.newest) })
    }

    /// Starts the queue at the end of the log, with the events that wait there. Without `late = "wait"` they are applied
    /// now: an earlier run had other settings.
    pub(in crate::service) fn start_queue(&self, start: SeqPoint) -> Result<(), LogError> {
        self.queue.start(start);
        let (mut place, end) = (self.waiting_from.max(self.log.retained().start), self.log.retained().end);
        while place < end {
            let entries = self.log.read(place, READ_AT_ONCE)?;
            if entries.is_empty() {
                break;
            }
            place += entries.len() as u64;
            let mut state = self.queue.lock();
            let about_waiting =
                |entry: &&Entry| entry.changes_only_waiting() || matches!(entry.mutation, Mutation::Release { .. });
            for entry in entries.iter().filter(about_waiting) {
                state.waiting.replay(entry, &self.schema.times(entry));
                state.waiting.logged(entry);
            }
        }
        let mut state = self.queue.lock();
        let NewestTimes { applied, .. } = start.newest;
        let newest = NewestTimes { applied, submitted: applied.max(state.waiting.newest()) };
        state.start(SeqPoint { newest, ..start });
        match self.spec.late {
            Late::Wait => self.release_due(&mut state),
            _ => _ = self.release(&mut state, None, 0),
        }
        drop(state);
        self.queue.notify();
        Ok(())
    }
}
