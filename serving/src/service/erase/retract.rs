//! Taking events back, by the ids they were told under.

use std::time::{Duration, Instant};

use crate::log::{Mutation, ReplayError, entry_after};
use crate::request::{MAX_ITEMS, RequestError};
use crate::service::ingest::{IngestError, Receipt, Ticket};
use crate::service::{Core, Service};
use crate::{Position, Retraction};

/// How long an event in line is waited for, which is to be taken back.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a retraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Retracted {
    /// Events that the history still knew; of the others nothing was left that could be taken back.
    pub retracted: u64,
    /// What reads see.
    pub position: Position,
}

impl Retracted {
    /// What a retraction's receipt says.
    pub fn of(receipt: &Receipt) -> Retracted {
        Retracted { retracted: receipt.accepted, position: receipt.position }
    }
}

impl Service {
    /// Takes events back that were told under ids, as [`Engine::retract`](crate::Engine::retract) does, and waits until it has happened. The
    /// log of record keeps them, and the retraction at its place behind them.
    ///
    /// # Errors
    /// [`IngestError`], naming the first id the log does not remember: nothing was taken back.
    pub fn retract(&self, ids: &[String]) -> Result<Retracted, IngestError> {
        Ok(Retracted::of(&self.submit_retraction(ids)?.wait()?))
    }

    /// Puts a retraction in line without waiting for it to happen; [`Retracted::of`] reads what the ticket is for.
    ///
    /// # Errors
    /// As [`retract`](Service::retract).
    pub fn submit_retraction(&self, ids: &[String]) -> Result<Ticket, IngestError> {
        self.core.retract(ids).inspect_err(|error| self.core.counts.refused(error))
    }
}

impl Core {
    fn retract(&self, ids: &[String]) -> Result<Ticket, IngestError> {
        if ids.len() > MAX_ITEMS {
            return Err(RequestError::TooMany { place: "ids".into(), count: ids.len() }.into());
        }
        self.ready()?;
        self.log_health.retry(|| self.log.reopen())?;
        let events = ids.iter().enumerate().map(|(i, id)| self.find_by_id(i, id)).collect::<Result<_, _>>()?;
        self.enqueue_mutation(Mutation::Retract { events })
    }

    /// The event that was told under `ids[i]`.
    fn find_by_id(&self, i: usize, id: &str) -> Result<Retraction, IngestError> {
        let unknown = || {
            RequestError::invalid(
                format!("ids[{i}]"),
                format!("is `{id}`, and the log of record remembers no event under that id"),
            )
        };
        let queued = self.queue.lock().ids.get(id).copied();
        if let Some(seq) = queued {
            // One that never gets there is not found below.
            self.progress.wait(Instant::now() + DURABLE_TIMEOUT, |reached| reached.durable_seq > seq);
        }
        let seq = self.log.find(id)?.ok_or_else(unknown)?;
        let mut place = match entry_after(&*self.log, seq) {
            Ok(place) => place,
            Err(ReplayError::Log(error)) => return Err(error.into()),
            Err(_) => return Err(unknown().into()),
        };
        // Entries without events may stand before the one that has it.
        while let Some(entry) = self.log.read(place, 1)?.first() {
            if let Some(event) = entry.new_events().get(seq.saturating_sub(entry.first_seq) as usize) {
                return Ok(Retraction { seq, src: event.src, dst: event.dst });
            }
            place += 1;
        }
        Err(unknown().into())
    }
}
