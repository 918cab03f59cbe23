//! Follows a log that another server writes, and takes over from that server.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::Position;
use crate::log::{LogError, ReplayError, replay};
use crate::service::{Core, Readiness, Service, ServiceError};

/// Time between two polls of a log without new entries.
const SOON: Duration = Duration::from_millis(10);
/// Time between two polls of a log that cannot be read.
const LATER: Duration = Duration::from_secs(1);

impl Service {
    /// Ends following: applies what the log holds by now, and accepts events from then on. Waits until the deadline.
    ///
    /// Of several followers, promote the one with the [largest position](Service::position); the others then follow it.
    /// The caller must make sure that the previous writer is gone: the service does not check this.
    ///
    /// # Errors
    /// [`ServiceError::Conflict`] if the service does not follow, or cannot read the log to its end by the deadline: it
    /// continues to follow.
    pub fn promote(&self, deadline: Instant) -> Result<Position, ServiceError> {
        let unfit = |fact: String| Err(ServiceError::Conflict(fact));
        if self.readiness() != Readiness::Following {
            return unfit(format!("there is nobody to take over from: the server is {}", self.readiness()));
        }
        self.core.promoting.store(true, Relaxed);
        loop {
            match self.readiness() {
                Readiness::Ready => return Ok(self.position()),
                Readiness::Following if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                other => {
                    self.core.promoting.store(false, Relaxed);
                    return unfit(format!("the log of record was not read to its end in time: the server is {other}"));
                }
            }
        }
    }
}

impl Core {
    /// Applies what another server appends, until this server is promoted and has applied all of it, or has to stop.
    pub(super) fn follow(&self) -> Result<(), ReplayError> {
        self.readiness.advance(Readiness::Following);
        while self.readiness.get() == Readiness::Following {
            // Read before the last poll, so that the poll sees everything appended before the promotion.
            let promoting = self.promoting.load(Relaxed);
            let rest = match self.apply_new_entries() {
                Ok(0) if promoting => return Ok(()),
                Ok(0) => SOON,
                Ok(_) => Duration::ZERO,
                Err(ReplayError::Log(error @ LogError::Storage { .. })) => {
                    self.counts.log_failures.fetch_add(1, Relaxed);
                    tracing::warn!("what another server writes is not seen: {error}");
                    LATER
                }
                Err(error) => return Err(error),
            };
            std::thread::sleep(rest);
        }
        Ok(())
    }

    /// Applies the entries appended since the last poll. Returns their number.
    fn apply_new_entries(&self) -> Result<u64, ReplayError> {
        self.log.refresh()?;
        let mut place = self.lock_next_entry();
        let (engine, from) = (self.engine(), *place);
        let before = engine.position().log_seq;
        *place = replay(&*self.log, &engine, from, self.log.retained().end, |position| {
            self.progress.set_durable(position.log_seq);
            self.progress.set_applied(position);
            match self.readiness.get() {
                Readiness::Following => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })?;
        let entries = *place - from;
        drop(place);
        let events = engine.position().log_seq - before;
        if events > 0 {
            self.snapshotter.count(events, 0, &self.spec.snapshots);
        }
        Ok(entries)
    }
}
