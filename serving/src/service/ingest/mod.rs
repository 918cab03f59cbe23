//! Ingest requests, their receipts and their errors.
pub(crate) mod budget;
pub(crate) mod event_time;
pub(crate) mod failing;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod readiness;
pub(crate) mod refused;
pub(crate) mod reorder;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::log::LogError;
use crate::request::{Granularity, NewEvent, Position, RequestError};
use crate::service::ingest::readiness::Readiness;
use crate::service::ingest::refused::Refusal;

/// Longest id of an event, in bytes.
pub const LONGEST_ID: usize = 64;

/// Events to submit: all of them are applied, or none, except with [`OnError::Continue`].
#[derive(Clone, Debug, PartialEq)]
pub struct IngestRequest {
    /// The events, ordered by time.
    pub events: Vec<NewEvent>,
    /// Whether events are observed one by one or as one batch.
    pub granularity: Granularity,
    /// When the request is acknowledged.
    pub ack: Ack,
    /// What an invalid or late event refuses.
    pub on_error: OnError,
}

/// What an invalid or late event of a request refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The whole request.
    #[default]
    Abort,
    /// Only the event, which goes to the list of refused events. The others are accepted.
    Continue,
}

/// When the server acknowledges events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ack {
    /// Once they are in the queue. A crash may lose them.
    Accepted,
    /// Once they are on the disk. A crash cannot lose them any more.
    Durable,
    /// Once reads see them, which is after they are on the disk. With [`Late::Wait`](crate::Late::Wait) once they are on
    /// the disk: reads see them when their time has come.
    #[default]
    Applied,
}

/// The result of an ingest request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Number of the first accepted event; of the next event to come if none was accepted.
    pub first_seq: u64,
    /// Events accepted.
    pub accepted: u64,
    /// Events left out because the log already has an event with their id.
    pub duplicates: u64,
    /// Accepted events that were late and are applied at the newest time.
    pub late: u64,
    /// Accepted events that wait for their time. They have no number yet.
    #[serde(default)]
    pub waiting: u64,
    /// Events that were refused, while the others were accepted.
    #[serde(default)]
    pub refused: u64,
    /// The position of reads at the time of the answer.
    pub position: Position,
}

/// Why no event of a request was accepted; see [`NotApplied`](IngestError::NotApplied) for the exception.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IngestError {
    /// An event is invalid.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// The queue is full.
    #[error("{queued} events wait to be logged and applied, and there is room for {most}; try again later")]
    Full {
        /// Events in the queue.
        queued: usize,
        /// Capacity of the queue, in events.
        most: usize,
    },
    /// A budget is used up.
    #[error("{what} is {used}, and {bound} (setting `{setting}`)")]
    OverBudget {
        /// What is used up.
        what: &'static str,
        /// How much is used.
        used: String,
        /// How much may be.
        bound: String,
        /// The key of the budget in the server's settings.
        setting: &'static str,
    },
    /// The service accepts no events now.
    #[error("no events are taken: the server is {0}")]
    NotReady(Readiness),
    /// The log of record cannot be written. None of the events is applied, except if the process dies before the log
    /// can be written again: then the log may contain them. An event that is submitted again with its id is applied
    /// once in any case.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The events are on the disk, and are applied when the server is started again.
    #[error("the events are durable, but cannot be applied: {0}")]
    NotApplied(String),
}

impl Receipt {
    /// The receipt of a request without events.
    pub(crate) fn new(first_seq: u64, position: Position) -> Receipt {
        Receipt { first_seq, accepted: 0, duplicates: 0, late: 0, waiting: 0, refused: 0, position }
    }
}

pub(crate) type IngestResult = Result<Receipt, IngestError>;

/// A pending receipt. A task awaits it; a thread calls [`wait`](Ticket::wait).
#[derive(Debug)]
pub struct Ticket {
    outcome: oneshot::Receiver<IngestResult>,
    refusals: Vec<Refusal>,
}

impl Ticket {
    pub(crate) fn new() -> (oneshot::Sender<IngestResult>, Ticket) {
        let (sender, outcome) = oneshot::channel();
        (sender, Ticket { outcome, refusals: Vec::new() })
    }

    pub(crate) fn with_refusals(self, refusals: Vec<Refusal>) -> Ticket {
        Ticket { refusals, ..self }
    }

    /// The events that were refused while the others were accepted. They are in the list of refused events.
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    pub(crate) fn take_refusals(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refusals)
    }

    /// Whether there is a receipt, or never will be one. Do not wait for the ticket after this has returned true.
    pub(super) fn is_settled(&mut self) -> bool {
        !matches!(self.outcome.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// Waits on this thread, which must not be a thread that drives async tasks.
    ///
    /// # Errors
    /// [`IngestError`]: none of the events was accepted.
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

/// The error when the answering thread has ended.
fn gone() -> IngestError {
    IngestError::NotReady(Readiness::Broken { why: "the thread that applies events has ended".into() })
}
