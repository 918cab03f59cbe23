//! Expires idle nodes.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::Number;
use tokio::sync::oneshot::Sender;

use crate::engine::NODES_A_PART;
use crate::log::{Entry, Mutation};
use crate::request::{FieldPath, ticks};
use crate::service::ingest::queue::{QueuedRequest, SeqPoint};
use crate::service::ingest::{IngestError, IngestResult, Receipt, Ticket};
use crate::service::{Core, Service};
use crate::{Position, RequestError};

/// Fewest events between two searches for idle nodes.
const EVERY: u64 = 10_000;
/// Most nodes to search per event. A large graph is therefore searched less often.
const NODES_AN_EVENT: u64 = 8;

/// The result of an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Expired {
    /// Number of nodes forgotten.
    pub forgotten: u64,
    /// The position that reads see.
    pub position: Position,
}

impl Service {
    /// Forgets the nodes that no event from `before` on has named, as [`Engine::expire`](crate::Engine::expire) does,
    /// and waits until this is applied. Each part of the nodes is one entry of the log of record. A part is enqueued
    /// once the one before is applied, so events wait for one part at most. Without `before`, forgets nodes that have
    /// been idle for longer than the setting `engine.ttl`; the server also does this from time to time.
    ///
    /// # Errors
    /// [`IngestError`]: nothing was forgotten.
    pub fn expire(&self, before: Option<&Number>) -> Result<Expired, IngestError> {
        let Receipt { accepted, position, .. } = self.core.expire(before)?.wait()?;
        Ok(Expired { forgotten: accepted, position })
    }
}

impl Core {
    fn expire(&self, before: Option<&Number>) -> Result<Ticket, IngestError> {
        let overdue = || self.engine().overdue();
        let missing = || RequestError::invalid("before", "is missing, and the settings have no `engine.ttl`");
        let before = before.cloned().or_else(overdue).ok_or_else(missing)?;
        self.ready()?;
        self.enqueue_expiry(before)
    }

    /// Enqueues the first part after checking it: every entry in the log must be valid.
    fn enqueue_expiry(&self, before: Number) -> Result<Ticket, IngestError> {
        let engine = self.engine();
        ticks(&engine.manifest().time_unit, &before, FieldPath::field("before"))?;
        if engine.history().needs().keeps_all() {
            return Err(RequestError::invalid(
                "before",
                "cannot be given to a model that looks at all events of a node",
            )
            .into());
        }
        self.enqueue_mutation(Mutation::Expire { before, nodes: 0..NODES_A_PART })
    }

    /// Enqueues a mutation that is not an event.
    pub(crate) fn enqueue_mutation(&self, mutation: Mutation) -> Result<Ticket, IngestError> {
        let (answer, ticket) = Ticket::new();
        self.enqueue_with_reply(mutation, 0, &mut Some(answer))?;
        Ok(ticket)
    }

    /// The same, for a caller that already waits for `answer`, after the given number of changes.
    fn enqueue_with_reply(
        &self,
        mutation: Mutation,
        changed: u64,
        answer: &mut Option<Sender<IngestResult>>,
    ) -> Result<(), IngestError> {
        let state = self.queue.lock();
        // Checked under the lock: the queue may have been closed, and then the readiness says why.
        self.ready()?;
        let SeqPoint { seq: first_seq, newest } = state.next;
        let receipt = Receipt { accepted: changed, ..Receipt::new(first_seq, self.applied_position()) };
        let entry = Entry { first_seq, mutation };
        let request = QueuedRequest { answer: answer.take(), ..QueuedRequest::of(entry, receipt, newest) };
        self.queue.enqueue(state, request);
        Ok(())
    }

    /// Enqueues the next part of the nodes, if there is one. Returns whether there is; then the waiting caller is
    /// answered after that part.
    pub(crate) fn continue_expiry(&self, waiting: &mut QueuedRequest) -> bool {
        let Some(Mutation::Expire { before, nodes }) = waiting.entry.as_ref().map(|entry| &entry.mutation) else {
            return false;
        };
        if nodes.end as usize >= self.engine().nodes() {
            return false;
        }
        let next =
            Mutation::Expire { before: before.clone(), nodes: nodes.end..nodes.end.saturating_add(NODES_A_PART) };
        if let Err(error) = self.enqueue_with_reply(next, waiting.receipt.accepted, &mut waiting.answer) {
            waiting.acknowledge(Err(error));
        }
        true
    }

    /// Orders an expiry if these events make one due and none is under way. It is an entry of the log, so a replay does
    /// the same under any settings.
    pub(crate) fn expire_if_due(&self, events: u64) {
        let events = self.events_since_expiry.fetch_add(events, Relaxed) + events;
        if events < EVERY || events * NODES_AN_EVENT < self.engine().nodes() as u64 {
            return;
        }
        let mut under_way = self.expiry.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.as_mut().is_some_and(|ticket| !ticket.is_settled()) {
            return;
        }
        self.events_since_expiry.store(0, Relaxed);
        let ordered = self.engine().overdue().map(|before| self.enqueue_expiry(before)).transpose();
        *under_way = ordered.unwrap_or_else(|error| {
            tracing::warn!("idle nodes are not looked for: {error}");
            None
        });
    }
}
