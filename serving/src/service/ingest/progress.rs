//! The progress of the log and the history, for callers that wait for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::request::Position;

/// How many events are durable and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogProgress {
    /// Number of events on the disk.
    pub durable_seq: u64,
    /// The position that reads see.
    pub applied: Position,
}

/// Shared progress of the log and the history.
#[derive(Debug)]
pub(crate) struct Progress {
    reached: Mutex<LogProgress>,
    changed: Condvar,
    watched: watch::Sender<LogProgress>,
}

impl Progress {
    pub fn new(reached: LogProgress) -> Progress {
        Progress { reached: Mutex::new(reached), changed: Condvar::new(), watched: watch::Sender::new(reached) }
    }

    fn lock(&self) -> MutexGuard<'_, LogProgress> {
        // Ignoring poison is safe: a number is written in one step.
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now(&self) -> LogProgress {
        *self.lock()
    }

    pub fn set_durable(&self, seq: u64) {
        self.change(|reached| reached.durable_seq = seq);
    }

    pub fn set_applied(&self, position: Position) {
        self.change(|reached| reached.applied = position);
    }

    fn change(&self, change: impl FnOnce(&mut LogProgress)) {
        let mut reached = self.lock();
        change(&mut reached);
        self.watched.send_replace(*reached);
        self.changed.notify_all();
    }

    /// Waits on this thread until `enough`. Returns `None` if the deadline passes first.
    pub fn wait(&self, deadline: Instant, mut enough: impl FnMut(&LogProgress) -> bool) -> Option<LogProgress> {
        let mut reached = self.lock();
        while !enough(&reached) {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            reached = self.changed.wait_timeout(reached, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(*reached)
    }

    /// Waits asynchronously until `enough`.
    pub async fn reach(&self, enough: impl FnMut(&LogProgress) -> bool) -> LogProgress {
        let mut watcher = self.watched.subscribe();
        // This cannot fail: the sender lives as long as `self`.
        let reached = watcher.wait_for(enough).await.map(|reached| *reached);
        reached.unwrap_or_else(|_| self.now())
    }
}
