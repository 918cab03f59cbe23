//! What all interfaces share: queries, events and refusals.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::Instrument;

use crate::access::error::{ApiError, ErrorKind};
use crate::access::limits::LimitsSpec;
use crate::access::live::{Access, Live};
use crate::interface::listen::tls::Tls;
use crate::observe::audit::{Audit, AuditDetails};
use crate::observe::metrics::{Metrics, Stage};
use crate::schedule::{Answer, ReadOptions, ReadRequest, Scheduler};
use crate::service::{Ack, IngestError, IngestRequest, Readiness, Receipt, Refusal, Service, Ticket};

/// A service as its clients see it. It exists from the start, while its artifact and log may still be opening.
#[derive(Debug)]
pub(crate) struct Server {
    pub access: Live<Access>,
    pub audit: Audit,
    pub tls: Option<Arc<Tls>>,
    pub limits: LimitsSpec,
    pub metrics: Arc<Metrics>,
    pub phase: watch::Receiver<Phase>,
    /// Empty while the service is being opened.
    pub served: OnceLock<Served>,
}

/// The opened service.
#[derive(Debug)]
pub(crate) struct Served {
    pub service: Arc<Service>,
    pub scheduler: Scheduler,
}

/// The phase of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not stopping.
    Up,
    /// Not ready any more, but still answering.
    Lingering,
    /// Finishing the requests in flight.
    Closing,
}

/// The tenant of a request and its deadline.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub tenant: Arc<str>,
    pub deadline: Option<Instant>,
    /// What the audit log says about the request.
    pub details: AuditDetails,
}

/// The read consistency of a request, as clients write it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadConsistency {
    pub min_seq: Option<u64>,
    pub max_staleness_ms: Option<u64>,
}

/// Submitted events whose receipt is awaited.
#[derive(Debug)]
pub(crate) struct Submitted {
    ticket: Ticket,
    ack: Ack,
    begun: Instant,
}

impl Submitted {
    /// The events that were refused while the others were accepted.
    pub fn take_refusals(&mut self) -> Vec<Refusal> {
        self.ticket.take_refusals()
    }
}

/// Most events that are validated on a thread that drives connections. Longer work would delay other connections.
const FEW: usize = 256;

/// Interval of attempts to submit while the queue is full.
const ROOM: Duration = Duration::from_millis(2);

/// When a client should try again while the server opens or replays.
const SOON: Duration = Duration::from_secs(1);

impl Server {
    /// The opened service and its scheduler.
    ///
    /// # Errors
    /// 503 while it is being opened.
    pub fn served(&self) -> Result<&Served, ApiError> {
        self.served.get().ok_or_else(|| starting("opening its artifact and its log of record", "opening"))
    }

    /// The opened service.
    ///
    /// # Errors
    /// As [`served`](Server::served).
    pub fn service(&self) -> Result<&Arc<Service>, ApiError> {
        Ok(&self.served()?.service)
    }

    /// Submits a read with the caller's options.
    ///
    /// # Errors
    /// [`ApiError`], at the latest at the deadline.
    pub async fn query(&self, call: &Call, read: ReadRequest, seen: ReadConsistency) -> Result<Answer, ApiError> {
        self.check_size(&read)?;
        let begun = Instant::now();
        let options = ReadOptions {
            deadline: call.deadline,
            tenant: call.tenant.clone(),
            min_seq: seen.min_seq,
            max_staleness: seen.max_staleness_ms.map(Duration::from_millis),
        };
        let answering = self.served()?.scheduler.submit(read, options).instrument(tracing::debug_span!("answer"));
        let answered = self.by(call.deadline, answering, "nothing was changed").await?;
        self.metrics.stage(Stage::Answer, begun.elapsed());
        let answer = answered?;
        self.metrics.record_staleness(answer.position.log_seq);
        Ok(answer)
    }

    fn check_size(&self, read: &ReadRequest) -> Result<(), ApiError> {
        match read {
            ReadRequest::Score { queries, during } => {
                LimitsSpec::count("queries", queries.len(), self.limits.pairs)?;
                LimitsSpec::count("during", during.len(), self.limits.events)
            }
            ReadRequest::Rank(query) => {
                LimitsSpec::count("candidates", query.candidates.as_ref().map_or(0, Vec::len), self.limits.candidates)
            }
            _ => Ok(()),
        }
    }

    /// Validates and enqueues events.
    ///
    /// # Errors
    /// [`ApiError`]: no event is applied.
    pub async fn submit(&self, request: IngestRequest) -> Result<Submitted, ApiError> {
        LimitsSpec::count("events", request.events.len(), self.limits.events)?;
        let (ack, begun, service) = (request.ack, Instant::now(), self.service()?.clone());
        let ticket = if request.events.len() <= FEW {
            service.submit(request)?
        } else {
            let service = service.clone();
            run_blocking(move || service.submit(request)).await??
        };
        self.metrics.submitted(service.submitted_seq());
        Ok(Submitted { ticket, ack, begun })
    }

    /// As [`submit`](Server::submit), but waits for space in the queue as long as the limits allow. Meanwhile a
    /// streaming client is not read from.
    ///
    /// # Errors
    /// As [`submit`](Server::submit).
    pub async fn submit_when_room(&self, request: IngestRequest) -> Result<Submitted, ApiError> {
        let begun = Instant::now();
        loop {
            match self.submit(request.clone()).await {
                Err(refused) if refused.kind == ErrorKind::Busy && begun.elapsed() < self.limits.wait() => {
                    tokio::time::sleep(ROOM).await
                }
                submitted => return submitted,
            }
        }
    }

    /// Waits for the receipt of submitted events.
    ///
    /// # Errors
    /// [`ApiError`]: no event is applied, except where the deadline passed.
    pub async fn wait_for_receipt(&self, call: &Call, submitted: Submitted) -> Result<Receipt, ApiError> {
        let waiting = submitted.ticket.instrument(tracing::debug_span!("ingest"));
        let receipt = self
            .by(call.deadline, waiting, "the events may happen still; tell them again under the same ids to be sure")
            .await?;
        self.metrics.acknowledged(submitted.ack, submitted.begun.elapsed());
        Ok(receipt?)
    }

    /// Waits for `work` until the deadline, or as long as the limits allow.
    pub async fn by<T>(
        &self,
        deadline: Option<Instant>,
        work: impl Future<Output = T>,
        then: &str,
    ) -> Result<T, ApiError> {
        let longest = Instant::now() + self.limits.wait();
        let deadline = deadline.map_or(longest, |deadline| deadline.min(longest));
        let late = |_| ApiError::new(ErrorKind::Deadline, format!("the deadline has passed; {then}"));
        tokio::time::timeout_at(deadline.into(), work).await.map_err(late)
    }

    /// Whether answers are current and events are accepted. A follower is ready without accepting events.
    ///
    /// # Errors
    /// 503 with what the server is doing instead.
    pub fn ready(&self) -> Result<(), ApiError> {
        let stopping = *self.phase.borrow() != Phase::Up;
        match if stopping { Readiness::Draining } else { self.service()?.readiness() } {
            Readiness::Ready => match self.service()?.log_failure() {
                Some(error) => {
                    let said = format!("no event can be accepted, and reads are answered: {error}");
                    Err(ApiError::new(ErrorKind::Unavailable, said).with("status", "log-failing"))
                }
                None => Ok(()),
            },
            Readiness::Following => Ok(()),
            other @ Readiness::Recovering { .. } => Err(recovering(&other)),
            other @ Readiness::Draining => {
                Err(ApiError::new(ErrorKind::Unavailable, other.to_string()).with("status", "draining"))
            }
            other @ Readiness::Broken { .. } => {
                Err(ApiError::new(ErrorKind::Unavailable, other.to_string()).with("status", "broken"))
            }
        }
    }

    /// Whether everything durable is applied, so that the server can be queried.
    ///
    /// # Errors
    /// 503 with the progress of the replay.
    pub fn caught_up(&self) -> Result<(), ApiError> {
        match self.service()?.readiness() {
            other @ Readiness::Recovering { .. } => Err(recovering(&other)),
            _ => Ok(()),
        }
    }

    /// Resolves with a refusal when streams have to end because the server stops.
    pub async fn closing(&self) -> ApiError {
        // A closed channel means that the server is closing too.
        let _ = self.phase.clone().wait_for(|phase| *phase == Phase::Closing).await;
        ApiError::new(ErrorKind::Unavailable, "the server is stopping; go on elsewhere, or with a new stream later")
    }

    /// The version of the weights that answer now.
    ///
    /// # Errors
    /// As [`served`](Server::served).
    pub fn model(&self) -> Result<String, ApiError> {
        Ok(self.service()?.engine().manifest().model_version())
    }

    /// Parts of the state that keep the effect of events after they are retracted.
    ///
    /// # Errors
    /// As [`served`](Server::served).
    pub fn remains(&self) -> Result<Vec<&'static str>, ApiError> {
        Ok(self.service()?.engine().kept_after_retract())
    }
}

fn starting(doing: impl Into<String>, status: &str) -> ApiError {
    let refused = ApiError::new(ErrorKind::Unavailable, format!("the server is {}; try again soon", doing.into()));
    ApiError { retry_after: Some(SOON), ..refused.with("status", status) }
}

/// A refusal with the progress of the replay.
fn recovering(readiness: &Readiness) -> ApiError {
    let refused = starting(readiness.to_string(), "recovering");
    let Readiness::Recovering { applied, of } = *readiness else { return refused };
    refused.with("applied", applied).with("of", of)
}

/// Runs long work on a thread of its own, so that other connections do not wait.
///
/// # Errors
/// 500 if it panics.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::broken())
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> ApiError {
        let said = error.to_string();
        match error {
            IngestError::Refused(error) => error.into(),
            // About the time in which a full queue is applied.
            IngestError::Full { .. } => {
                ApiError { retry_after: Some(Duration::from_millis(500)), ..ApiError::new(ErrorKind::Busy, said) }
            }
            IngestError::OverBudget { .. } => ApiError::new(ErrorKind::OverBudget, said),
            IngestError::NotReady(_) | IngestError::Log(_) | IngestError::NotApplied(_) => {
                ApiError::new(ErrorKind::Unavailable, said)
            }
        }
    }
}
