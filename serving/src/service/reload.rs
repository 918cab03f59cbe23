//! Changing models under way: the next one is warmed beside the one that answers, then takes its place.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use serde::Serialize;

use crate::log::{ReplayError, entry_after, replay};
use crate::service::schema::EventSchema;
use crate::service::{Core, LogProgress, ServiceError};
use crate::{Engine, Position};

/// Entries the next model may be behind when events are held up for it.
const CLOSE: u64 = 64;
/// Rounds of catching up before events are held up however far it is behind: they come faster than it can replay them.
const ROUNDS: usize = 20;

/// A change of models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Name of the weights that answer now.
    pub model: String,
    /// Name of the weights that answered before.
    pub previous: String,
    /// Events replayed to warm them.
    pub replayed: u64,
    /// What reads see.
    pub position: Position,
}

impl Core {
    pub(super) fn reload(&self, artifact: &Path) -> Result<Reloaded, ServiceError> {
        let next = Engine::open_with(artifact, &self.spec.engine)?;
        let (ours, theirs) = (&self.schema, EventSchema::of(next.manifest()));
        if *ours != theirs {
            return Err(ServiceError::Conflict(format!(
                "{} cannot take over: it is told {theirs}, and this server {ours}",
                artifact.display()
            )));
        }
        self.switch_to(Arc::new(next))
    }

    pub(super) fn rollback(&self) -> Result<Reloaded, ServiceError> {
        let previous = self.previous().clone();
        self.switch_to(
            previous.ok_or_else(|| ServiceError::Conflict("there is no model before this one to go back to".into()))?,
        )
    }

    /// Lets `next` catch up, puts it in the snapshot store, and lets it answer. Until then nothing has changed.
    fn switch_to(&self, next: Arc<Engine>) -> Result<Reloaded, ServiceError> {
        // One change at a time, and no snapshot of the model that goes after that of the one that comes.
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
        // Whatever happens from here on, a server that is started again has this model.
        self.write_snapshot(&snapshot_store, &next)?;
        let applied = self.lock_next_entry();
        if let Err(error) = replay(&*self.log, &next, place, *applied, |_| ControlFlow::Continue(())) {
            // It does not stay: the newest snapshot is of the one that goes on answering.
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

    /// Refuses a model from before the first event of a log that has none yet, or from after the last.
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

    /// Lets `next` answer, and keeps the one that answered.
    fn swap(&self, next: Arc<Engine>) -> Arc<Engine> {
        let last = std::mem::replace(&mut *self.engine.write().unwrap_or_else(PoisonError::into_inner), next);
        *self.previous() = Some(last.clone());
        last
    }

    /// The model that answered before, for as long as it is looked at.
    pub(super) fn previous(&self) -> MutexGuard<'_, Option<Arc<Engine>>> {
        // A pointer is written whole.
        self.previous.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
