//! Retracts events by their ids.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use tempograph_framework::Timestamp;

use crate::log::{Entry, KnownId, Mutation, ReplayError, entry_after};
use crate::request::{MAX_ITEMS, RequestError, user_time};
use crate::service::ingest::queue::{NewestTimes, QueuedRequest};
use crate::service::ingest::{IngestError, Receipt, Ticket};
use crate::service::{Core, Service};
use crate::{Position, Retraction};

/// Longest wait for an event in the queue that is to be retracted.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for events that are on their way to the log before a retraction.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

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
    /// applied. The log of record keeps the events, and appends the retraction after them. If they are the newest events,
    /// the newest time becomes that of the newest event that is left, and the next events may be as old as that.
    ///
    /// # Errors
    /// [`IngestError`], naming the first id that the log does not contain: nothing was retracted.
    pub fn retract(&self, ids: &[String]) -> Result<Retracted, IngestError> {
        Ok(Retracted::of(&self.submit_retraction(ids, &[])?.wait()?))
    }

    /// Enqueues a retraction, of events by their ids and by their numbers, without waiting until it is applied. [`Retracted::of`] converts the ticket's receipt.
    ///
    /// # Errors
    /// As [`retract`](Service::retract).
    pub fn submit_retraction(&self, ids: &[String], seqs: &[u64]) -> Result<Ticket, IngestError> {
        self.core.retract(ids, seqs).inspect_err(|error| self.core.counts.refused(error))
    }
}

impl Core {
    fn retract(&self, ids: &[String], seqs: &[u64]) -> Result<Ticket, IngestError> {
        for (place, count) in [("ids", ids.len()), ("seqs", seqs.len())] {
            if count > MAX_ITEMS {
                return Err(RequestError::TooMany { place: place.into(), count }.into());
            }
        }
        self.ready()?;
        self.log_health.retry(|| self.log.reopen())?;
        let waits = |id: &&String| self.queue.lock().waiting.contains_id(id);
        let (waiting, logged): (Vec<&String>, Vec<&String>) = ids.iter().partition(|id| waits(id));
        let logged: FxHashSet<&String> = logged.into_iter().collect();
        let by_id = ids.iter().enumerate().filter(|(_, id)| logged.contains(id));
        let by_id = by_id.map(|(i, id)| self.find_by_id(i, id));
        let by_seq = seqs.iter().enumerate().map(|(i, &seq)| self.find_by_seq(i, seq));
        let events: Vec<Retraction> = by_id.chain(by_seq).collect::<Result<_, _>>()?;
        self.enqueue_retraction(&waiting, events)
    }

    /// Enqueues the retraction of events that wait, by their ids, and of events that are in the log.
    fn enqueue_retraction(&self, waiting: &[&String], mut events: Vec<Retraction>) -> Result<Ticket, IngestError> {
        // The newest time is lowered only if nothing is on its way to the log. A log that hangs is not waited for.
        let deadline = Instant::now() + ON_ITS_WAY;
        let mut state = self.queue.lock();
        while !state.is_appended() && Instant::now() < deadline {
            drop(state);
            std::thread::sleep(Duration::from_millis(1));
            state = self.queue.lock();
        }
        self.ready()?;
        let (ids, released): (Vec<&str>, Vec<&str>) =
            waiting.iter().map(|id| id.as_str()).partition(|id| state.waiting.contains_id(id));
        if !released.is_empty() {
            // Their time has come meanwhile. Those that still wait are looked for again.
            drop(state);
            for (i, id) in released.iter().enumerate() {
                events.push(self.find_by_id(i, id)?);
            }
            let waiting: Vec<&String> = waiting.iter().filter(|id| ids.contains(&id.as_str())).copied().collect();
            return self.enqueue_retraction(&waiting, events);
        }
        let lowered = if state.is_appended() { self.newest_without(&events)? } else { None };
        let dropped = self.drop_waiting(&mut state, &ids);
        let (answer, ticket) = Ticket::new();
        let changed = dropped.as_ref().and_then(|dropped| dropped.entry.as_ref());
        let changed = changed.map_or(0, |entry| entry.changed_waiting() as u64);
        dropped.into_iter().for_each(|request| state.push(request));
        if let Some(lowered) = lowered {
            let submitted = Some(lowered).max(state.waiting.newest());
            state.next.newest = NewestTimes { applied: Some(lowered), submitted };
        }
        let newest = lowered.map(|lowered| user_time(self.schema.unit(), lowered));
        let entry = Entry { first_seq: state.next.seq, mutation: Mutation::Retract { events, newest } };
        let receipt = Receipt { accepted: changed, ..Receipt::new(state.next.seq, self.applied_position()) };
        let request = QueuedRequest { answer: Some(answer), ..QueuedRequest::of(entry, receipt, state.next.newest) };
        state.push(request);
        drop(state);
        self.queue.notify();
        Ok(ticket)
    }

    /// The newest time once these events are retracted, if they are the newest of those that were not retracted before.
    fn newest_without(&self, events: &[Retraction]) -> Result<Option<Timestamp>, IngestError> {
        let mut retracted: FxHashSet<u64> = events.iter().map(|event| event.seq).collect();
        let (retained, mut lowers) = (self.log.retained(), false);
        for place in retained.rev() {
            let entries = self.log.read(place, 1)?;
            let Some(entry) = entries.first() else { break };
            if let Mutation::Retract { events, .. } = &entry.mutation {
                retracted.extend(events.iter().map(|event| event.seq));
            }
            for (i, event) in entry.new_events().iter().enumerate().rev() {
                if !retracted.contains(&(entry.first_seq + i as u64)) {
                    return Ok(self.schema.ticks(&event.time).filter(|_| lowers));
                }
                lowers = true;
            }
            if entry.first_seq == self.artifact_end.seq {
                return Ok(self.artifact_end.newest.applied.filter(|_| lowers));
            }
        }
        Ok(None)
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
        if let Some(KnownId { seq, .. }) = queued {
            // If the wait fails, the lookup below does not find the event.
            self.progress.wait(Instant::now() + DURABLE_TIMEOUT, |reached| reached.durable_seq > seq);
        }
        let KnownId { seq, .. } = self.log.find(id)?.ok_or_else(unknown)?;
        self.find_in_log(seq)?.ok_or_else(|| unknown().into())
    }

    /// The event with the number `seqs[i]`.
    fn find_by_seq(&self, i: usize, seq: u64) -> Result<Retraction, IngestError> {
        let unknown = || {
            RequestError::invalid(format!("seqs[{i}]"), format!("is {seq}, and the log of record has no such event"))
        };
        if seq >= self.progress.now().durable_seq {
            return Err(unknown().into());
        }
        self.find_in_log(seq)?.ok_or_else(|| unknown().into())
    }

    fn find_in_log(&self, seq: u64) -> Result<Option<Retraction>, IngestError> {
        let mut place = match entry_after(&*self.log, seq) {
            Ok(place) => place,
            Err(ReplayError::Log(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        // Entries without events may come before the entry that has the event.
        while let Some(entry) = self.log.read(place, 1)?.first() {
            if let Some(event) = entry.new_events().get(seq.saturating_sub(entry.first_seq) as usize) {
                return Ok(Some(Retraction { seq, src: event.src.clone(), dst: event.dst.clone() }));
            }
            place += 1;
        }
        Ok(None)
    }
}
