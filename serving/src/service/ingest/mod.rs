//! What is ingested, and what the sender is told.
pub(crate) mod failing;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod readiness;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::log::LogError;
use crate::request::{Granularity, NewEvent, Position, RequestError};
use crate::service::ingest::readiness::Readiness;

/// Most bytes of an event's id.
pub const LONGEST_ID: usize = 64;

/// Events to let happen: all of them, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestRequest {
    /// The events, in order of time.
    pub events: Vec<NewEvent>,
    /// Whether one by one or all at once.
    pub granularity: Granularity,
    /// When the sender is answered.
    pub ack: Ack,
}

/// When the sender of events is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// Once they stand in line. A crash may lose them.
    Accepted,
    /// Once they are on the disk. Nothing loses them any more.
    Durable,
    /// Once reads see them, which is after they are on the disk.
    #[default]
    Applied,
}

/// What became of a request's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Number of the first event that was taken; of the next one to come, where none was.
    pub first_seq: u64,
    /// Events taken.
    pub accepted: u64,
    /// Events left out, because the log has one under their id.
    pub duplicates: u64,
    /// Events taken that were late, and happen now.
    pub late: u64,
    /// What reads see at the time of the answer.
    pub position: Position,
}

/// Why no event of a request was taken, but for [`NotApplied`](IngestError::NotApplied).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IngestError {
    /// An event will not do.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// The line is full.
    #[error("{queued} events wait to be logged and applied, and there is room for {most}; try again later")]
    Full {
        /// Events waiting.
        queued: usize,
        /// Room for events.
        most: usize,
    },
    /// Nothing is taken now.
    #[error("no events are taken: the server is {0}")]
    NotReady(Readiness),
    /// The log of record cannot be written. None of the events will happen, unless the process dies before the log can be written again:
    /// then it may be found in the log. Sent again under its id, an event happens once in any case.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The events are on the disk, and will happen when the server is started again.
    #[error("the events are durable, but cannot be applied: {0}")]
    NotApplied(String),
}

pub(crate) type IngestResult = Result<Receipt, IngestError>;

/// A receipt to come. It is waited for in a task by awaiting it, or on a thread by [`wait`](Ticket::wait).
#[derive(Debug)]
pub struct Ticket {
    outcome: oneshot::Receiver<IngestResult>,
}

impl Ticket {
    pub(crate) fn new() -> (oneshot::Sender<IngestResult>, Ticket) {
        let (sender, outcome) = oneshot::channel();
        (sender, Ticket { outcome })
    }

    /// Whether there is a receipt, or never will be one. Who has asked and heard so does not wait for it any more.
    pub(super) fn is_settled(&mut self) -> bool {
        !matches!(self.outcome.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// Waits on this thread, which must not be one that drives tasks.
    ///
    /// # Errors
    /// [`IngestError`]: none of the events was taken.
    pub fn wait(self) -> IngestResult {
        self.outcome.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Future for Ticket {
    type Output = IngestResult;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<IngestResult> {
        Pin::new(&mut self.outcome).poll(context).map(|outcome| outcome.unwrap_or_else(|_| Err(gone())))
    }
}

/// The thread that had to answer has ended.
fn gone() -> IngestError {
    IngestError::NotReady(Readiness::Broken { why: "the thread that applies events has ended".into() })
}
