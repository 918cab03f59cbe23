//! The line events stand in: who comes after whom is decided here, before anything is written.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tempograph_framework::Timestamp;
use tokio::sync::oneshot;

use crate::log::Entry;
use crate::request::Position;
use crate::service::ingest::{Ack, Outcome, Receipt};

/// One request in line.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// What it writes; nothing if all it brought is known already, or there was nothing in it. It waits for its turn all the same:
    /// by then what it repeats is as durable as itself.
    pub entry: Option<Entry>,
    pub ack: Ack,
    pub receipt: Receipt,
    /// Time of the newest event up to and with it.
    pub newest: Option<Timestamp>,
    pub answer: Option<oneshot::Sender<Outcome>>,
}

impl Waiting {
    pub fn events(&self) -> usize {
        self.entry.as_ref().map_or(0, Entry::events)
    }

    /// What nobody waits for: an entry that was found in the log.
    pub fn found(entry: Entry, newest: Option<Timestamp>) -> Waiting {
        let position = Position { log_seq: 0, version: 0 };
        let receipt = Receipt { first_seq: entry.first_seq, accepted: 0, duplicates: 0, late: 0, position };
        Waiting { entry: Some(entry), ack: Ack::Applied, receipt, newest, answer: None }
    }

    pub fn answer(&mut self, outcome: Outcome) {
        if let Some(answer) = self.answer.take() {
            // The sender may have gone.
            let _ = answer.send(outcome);
        }
    }
}

/// What comes after the last event.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Start {
    /// Number of the next event.
    pub seq: u64,
    /// Time of the newest so far.
    pub newest: Option<Timestamp>,
}

/// The end of the line.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// What comes next, with what stands in line counted in.
    pub next: Start,
    /// The same of the log.
    logged: Start,
    /// Events in line that have an id, and their numbers.
    pub ids: FxHashMap<String, u64>,
    queue: VecDeque<Waiting>,
    /// Events admitted and not applied yet.
    pub waiting: usize,
    /// Nobody joins any more, and who waits for the line's next is told when it is empty.
    closed: bool,
}

/// A line with one end where requests join and one where the log takes them.
#[derive(Debug, Default)]
pub(crate) struct Line {
    tail: Mutex<Tail>,
    joined: Condvar,
}

impl Line {
    pub fn starting_at(start: Start) -> Line {
        let line = Line::default();
        line.start(start);
        line
    }

    /// The end of the line, for who wants to join or to look.
    pub fn tail(&self) -> MutexGuard<'_, Tail> {
        // Joining is the last thing done under the lock, and done whole.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request at the end.
    pub fn join(&self, mut tail: MutexGuard<'_, Tail>, waiting: Waiting) {
        tail.waiting += waiting.events();
        tail.queue.push_back(waiting);
        drop(tail);
        self.joined.notify_one();
    }

    /// Takes requests from the front, at least one and up to `most` events; `None` once the line is closed and empty.
    pub fn take(&self, most: usize) -> Option<Vec<Waiting>> {
        let mut tail = self.tail();
        loop {
            match (tail.queue.is_empty(), tail.closed) {
                (false, _) => break,
                (true, true) => return None,
                (true, false) => {}
            }
            tail = self.joined.wait(tail).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut taken, mut events) = (Vec::new(), 0);
        while let Some(next) = tail.queue.front()
            && (taken.is_empty() || events + next.events() <= most)
        {
            events += next.events();
            taken.extend(tail.queue.pop_front());
        }
        Some(taken)
    }

    /// Puts both ends where the log's is, before anybody joins.
    pub fn start(&self, start: Start) {
        let mut tail = self.tail();
        (tail.next, tail.logged) = (start, start);
    }

    /// Says that `group`, taken last, is in the log.
    pub fn logged(&self, group: &[Waiting]) {
        let mut tail = self.tail();
        for waiting in group {
            let Some(entry) = &waiting.entry else { continue };
            // What is found in the log may be no event.
            tail.logged = Start { seq: entry.next_seq(), newest: waiting.newest.or(tail.logged.newest) };
            for (id, _) in entry.ids() {
                tail.ids.remove(id);
            }
        }
    }

    /// Says that `group`, which did not stand in line, is in the log.
    pub fn adopt(&self, group: &[Waiting]) {
        self.tail().waiting += group.iter().map(Waiting::events).sum::<usize>();
        self.logged(group);
    }

    /// Empties the line and puts its end back where the log's is: `group`, taken last, is not in the log. Returns all who stood there.
    pub fn reset(&self, mut group: Vec<Waiting>) -> Vec<Waiting> {
        let mut tail = self.tail();
        group.extend(std::mem::take(&mut tail.queue));
        tail.waiting -= group.iter().map(Waiting::events).sum::<usize>();
        tail.ids.clear();
        tail.next = tail.logged;
        group
    }

    /// Says that so many events in line have been applied, or never will be.
    pub fn leave(&self, events: usize) {
        self.tail().waiting -= events;
    }

    /// Lets nobody join any more.
    pub fn close(&self) {
        self.tail().closed = true;
        self.joined.notify_all();
    }
}
