//! Retracts events by their ids.

use std::time::{Duration, Instant};

use crate::log::{Mutation, ReplayError, entry_after};
use crate::request::{MAX_ITEMS, RequestError};
use crate::service::ingest::{IngestError, Receipt, Ticket};
use crate::service::{Core, Service};
use crate::{Position, Retraction};

/// Longest wait for an event in the queue that is to be retracted.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a retraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Retracted {
    /// Events that the history still contained. Nothing was left to retract of the others.
    pub retracted: u64,
    /// The position that reads see.
    pub position: Position,
}

impl Retracted {
    /// Converts the receipt of a retraction.
    pub fn of(receipt: &Receipt) -> Retracted {
        Retracted { retracted: receipt.accepted, position: receipt.position }
    }
}

impl Service {
    /// Retracts the events with these ids, as [`Engine::retract`](crate::Engine::retract) does, and waits until this is
    /// applied. The log of record keeps the events, and appends the retraction after them.
    ///
    /// # Errors
    /// [`IngestError`], naming the first id that the log does not contain: nothing was retracted.
    pub fn retract(&self, ids: &[String]) -> Result<Retracted, IngestError> {
        Ok(Retracted::of(&self.submit_retraction(ids)?.wait()?))
    }

    /// Enqueues a retraction without waiting until it is applied. [`Retracted::of`] converts the ticket's receipt.
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

    /// The event with the id `ids[i]`.
    fn find_by_id(&self, i: usize, id: &str) -> Result<Retraction, IngestError> {
        let unknown = || {
            RequestError::invalid(
                format!("ids[{i}]"),
                format!("is `{id}`, and the log of record remembers no event under that id"),
            )
        };
        let queued = self.queue.lock().ids.get(id).copied();
        if let Some(seq) = queued {
            // If the wait fails, the lookup below does not find the event.
            self.progress.wait(Instant::now() + DURABLE_TIMEOUT, |reached| reached.durable_seq > seq);
        }
        let seq = self.log.find(id)?.ok_or_else(unknown)?;
        let mut place = match entry_after(&*self.log, seq) {
            Ok(place) => place,
            Err(ReplayError::Log(error)) => return Err(error.into()),
            Err(_) => return Err(unknown().into()),
        };
        // Entries without events may come before the entry that has the event.
        while let Some(entry) = self.log.read(place, 1)?.first() {
            if let Some(event) = entry.new_events().get(seq.saturating_sub(entry.first_seq) as usize) {
                return Ok(Retraction { seq, src: event.src.clone(), dst: event.dst.clone() });
            }
            place += 1;
        }
        Err(unknown().into())
    }
}
