//! Replaces the model of a running service: the next model is warmed while the present one answers, then replaces it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use serde::Serialize;

use crate::log::{ReplayError, check_past, entry_after, replay};
use crate::service::schema::EventSchema;
use crate::service::{Core, LogProgress, ServiceError};
use crate::{Engine, Position};

/// The next model may be this many entries behind the log when events are stopped for it.
const CLOSE: u64 = 64;
/// Rounds of catching up before events are stopped however far the model is behind: then events arrive faster than it
/// can replay them.
const ROUNDS: usize = 20;

/// The result of a reload or rollback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Name of the weights that answer now.
    pub model: String,
    /// Name of the weights that answered before.
    pub previous: String,
    /// Events replayed to warm the weights.
    pub replayed: u64,
    /// The position that reads see.
    pub position: Position,
}

impl Core {
    pub(super) fn reload(&self, artifact: &Path) -> Result<Reloaded, ServiceError> {
        let next = Engine::open_with(artifact, &self.spec.engine)?;
        let (ours, theirs) = (&self.schema, EventSchema::of(next.manifest()));
        if *ours != theirs {
            return Err(ServiceError::Conflict(format!(
                "{} cannot take over: it takes events {theirs}, and this server {ours}",
                artifact.display()
            )));
        }
        check_past(&*self.log, next.manifest())?;
        self.switch_to(Arc::new(next))
    }

    pub(super) fn rollback(&self) -> Result<Reloaded, ServiceError> {
        let previous = self.previous().clone();
        self.switch_to(
            previous.ok_or_else(|| ServiceError::Conflict("there is no model before this one to go back to".into()))?,
        )
    }

    /// Lets `next` catch up, writes its snapshot, and makes it answer. Nothing has changed if this fails before.
    fn switch_to(&self, next: Arc<Engine>) -> Result<Reloaded, ServiceError> {
        // The lock admits one reload at a time, and no snapshot of the old model after the snapshot of the new one.
        let snapshot_store = self.snapshotter.snapshot_store();
        let from = next.position().log_seq;
        self.can_catch_up(from)?;
        let mut place = entry_after(&*self.log, from)?;
        for _ in 0..ROUNDS {
            let end = self.log.retained().end;
            place = replay(&*self.log, &next, place, end, |_| ControlFlow::Continue(()))?;
            if self.log.retained().end - place < CLOSE {
                break;
            }
        }
        // Once this is written, a restarted server has this model, whatever happens next.
        self.write_snapshot(&snapshot_store, &next)?;
        let applied = self.lock_next_entry();
        if let Err(error) = replay(&*self.log, &next, place, *applied, |_| ControlFlow::Continue(())) {
            // The newest snapshot is of the model that continues to answer, so the swap does not happen.
            drop(applied);
            self.write_snapshot(&snapshot_store, &self.engine())?;
            return Err(error.into());
        }
        let previous = self.swap(next.clone());
        let position = next.position();
        self.progress.set_applied(position);
        drop(applied);
        Ok(Reloaded {
            model: next.manifest().model_version(),
            previous: previous.manifest().model_version(),
            replayed: position.log_seq - from,
            position,
        })
    }

    /// Refuses a model whose position is before the first event of a log that has none yet, or after the last event.
    fn can_catch_up(&self, seen: u64) -> Result<(), ReplayError> {
        let LogProgress { durable_seq, applied } = self.progress.now();
        if seen > durable_seq {
            Err(ReplayError::Ahead { seen, end: durable_seq })
        } else if seen < applied.log_seq && self.log.retained().is_empty() {
            Err(ReplayError::Gap { seen, first: applied.log_seq })
        } else {
            Ok(())
        }
    }

    /// Makes `next` answer, and stores the previous model.
    fn swap(&self, next: Arc<Engine>) -> Arc<Engine> {
        let last = std::mem::replace(&mut *self.engine.write().unwrap_or_else(PoisonError::into_inner), next);
        *self.previous() = Some(last.clone());
        last
    }

    /// Locks the previous model.
    pub(super) fn previous(&self) -> MutexGuard<'_, Option<Arc<Engine>>> {
        // Ignoring poison is safe: a pointer is written in one step.
        self.previous.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
