//! Sends refused events again, or forgets them.

use serde::Serialize;

use crate::request::{Granularity, MAX_ITEMS};
use crate::service::ingest::refused::RefusedEvent;
use crate::service::{Ack, IngestError, IngestRequest, OnError, Service};

/// The result of sending refused events again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resent {
    /// Events that were accepted. They are not in the list any more.
    pub accepted: u64,
    /// Events left out because the log has an event with their id. They are not in the list any more.
    pub duplicates: u64,
    /// Events that were refused again. They stay in the list.
    pub refused: u64,
}

impl Service {
    /// The refused events from number `from` on, at most `count`.
    pub fn refused(&self, from: u64, count: usize) -> Vec<RefusedEvent> {
        self.core.refused.list(from, count)
    }

    /// Submits refused events again, in order of time; without numbers all of them. Waits until those that are accepted
    /// are applied.
    ///
    /// # Errors
    /// [`IngestError`]: those before are accepted and not in the list any more; the others stay in the list.
    pub fn resend_refused(&self, numbers: Option<&[u64]>) -> Result<Resent, IngestError> {
        let mut events = self.core.refused.find(numbers);
        events.sort_by_key(|event| (self.core.schema.ticks(&event.event.time), event.number));
        let mut sum = Resent::default();
        for part in events.chunks(MAX_ITEMS.min(self.core.spec.log.queue)) {
            self.resend_part(part, &mut sum)?;
        }
        Ok(sum)
    }

    fn resend_part(&self, part: &[RefusedEvent], sum: &mut Resent) -> Result<(), IngestError> {
        let request = IngestRequest {
            events: part.iter().map(|event| event.event.clone()).collect(),
            granularity: Granularity::Event,
            ack: Ack::Applied,
            on_error: OnError::Continue,
        };
        let ticket = self.core.submit_again(request)?;
        let again: Vec<usize> = ticket.refusals().iter().map(|refusal| refusal.index).collect();
        let receipt = ticket.wait()?;
        let settled = part.iter().enumerate().filter(|(i, _)| !again.contains(i)).map(|(_, event)| event.number);
        self.core.refused.remove(&settled.collect::<Vec<_>>()).map_err(|error| self.core.cannot_keep(error))?;
        sum.accepted += receipt.accepted;
        sum.duplicates += receipt.duplicates;
        sum.refused += receipt.refused;
        Ok(())
    }

    /// Forgets refused events; without numbers all of them. Returns how many there were.
    ///
    /// # Errors
    /// [`IngestError::Log`]: the list cannot be written, and is as before.
    pub fn forget_refused(&self, numbers: Option<&[u64]>) -> Result<u64, IngestError> {
        let numbers: Vec<u64> = self.core.refused.find(numbers).iter().map(|event| event.number).collect();
        let forgotten = self.core.refused.remove(&numbers).map_err(|error| self.core.cannot_keep(error))?;
        Ok(forgotten as u64)
    }
}
