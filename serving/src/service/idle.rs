//! Forgetting nodes that have been idle for long.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::Number;
use tempograph_framework::Sampler;

use super::ingest::{Ack, IngestError, Receipt, Ticket};
use super::line::{Start, Waiting};
use super::{Core, Service};
use crate::log::{Act, Entry};
use crate::request::{Place, ticks};
use crate::{Position, RequestError};

/// Events from one look for idle nodes to the next.
const EVERY: u64 = 10_000;

/// What became of a look for idle nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Forgotten {
    /// Nodes that were forgotten.
    pub forgotten: u64,
    /// What reads see.
    pub position: Position,
}

impl Service {
    /// Forgets nodes that no event from `before` on has named, as [`Engine::expire`](crate::Engine::expire) does, and waits until it has
    /// happened. Without a time, those idle for longer than the settings' `engine.ttl`; these are also looked for now and then.
    ///
    /// # Errors
    /// [`IngestError`]: nothing was forgotten.
    pub fn expire(&self, before: Option<&Number>) -> Result<Forgotten, IngestError> {
        let Receipt { accepted, position, .. } = self.core.expire(before)?.wait()?;
        Ok(Forgotten { forgotten: accepted, position })
    }
}

impl Core {
    fn expire(&self, before: Option<&Number>) -> Result<Ticket, IngestError> {
        let overdue = || self.engine().overdue();
        let missing = || RequestError::invalid("before", "is missing, and the settings have no `engine.ttl`");
        let before = before.cloned().or_else(overdue).ok_or_else(missing)?;
        self.ready()?;
        self.order_forgetting(before)
    }

    /// Puts it in line if it will do: what is in the log has to.
    fn order_forgetting(&self, before: Number) -> Result<Ticket, IngestError> {
        let engine = self.engine();
        ticks(&engine.manifest().time_unit, &before, Place::field("before"))?;
        if engine.history().needs().sampler != Sampler::Recent {
            return Err(RequestError::invalid("before", "cannot be given to a model that draws from all events of a node").into());
        }
        self.put_in_line(Act::Expire { before })
    }

    /// Puts in line what is no event.
    pub(super) fn put_in_line(&self, act: Act) -> Result<Ticket, IngestError> {
        let tail = self.line.tail();
        // Whoever closed the line has said so before.
        self.ready()?;
        let Start { seq: first_seq, newest } = tail.next;
        let receipt = Receipt { first_seq, accepted: 0, duplicates: 0, late: 0, position: self.stands() };
        let (answer, ticket) = Ticket::new();
        let entry = Some(Entry { first_seq, act });
        self.line.join(tail, Waiting { entry, ack: Ack::Applied, receipt, newest, answer: Some(answer) });
        Ok(ticket)
    }

    /// Orders a look for idle nodes when so many more events make one due. It takes its place in the log, so that a replay does the same
    /// whatever the settings are by then.
    pub(super) fn forget_idle(&self, events: u64) {
        if self.unlooked.fetch_add(events, Relaxed) + events < EVERY {
            return;
        }
        self.unlooked.store(0, Relaxed);
        if let Some(before) = self.engine().overdue()
            && let Err(error) = self.order_forgetting(before)
        {
            tracing::warn!("idle nodes are not looked for: {error}");
        }
    }
}
