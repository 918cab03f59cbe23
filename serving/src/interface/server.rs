//! What all interfaces share: one way to ask, one way to tell, one way to refuse.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::Instrument;

use crate::access::auth::Gate;
use crate::access::limits::LimitsSpec;
use crate::access::refused::{Kind, Refused};
use crate::observe::metrics::{Metrics, Stage};
use crate::schedule::{Answer, Read, Scheduler, Terms};
use crate::service::{Ack, IngestError, IngestRequest, Readiness, Receipt, Service, Ticket};

/// A service as its clients meet it: from the first moment on, though what it serves may take a while to open.
#[derive(Debug)]
pub(crate) struct Server {
    pub gate: Gate,
    pub limits: LimitsSpec,
    pub metrics: Arc<Metrics>,
    pub phase: watch::Receiver<Phase>,
    /// Nothing while it is being opened.
    pub served: OnceLock<Served>,
}

/// What is served, once it is open.
#[derive(Debug)]
pub(crate) struct Served {
    pub service: Arc<Service>,
    pub scheduler: Scheduler,
}

/// How far the server is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not at all.
    Up,
    /// Not ready any more, but answering.
    Lingering,
    /// Finishing what is in flight.
    Closing,
}

/// For whom a request is, and when the answer is of no use any more.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub tenant: Arc<str>,
    pub deadline: Option<Instant>,
}

/// What an answer must have seen, as clients say it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub min_seq: Option<u64>,
    pub max_staleness_ms: Option<u64>,
}

/// Events in line, and who waits for what.
#[derive(Debug)]
pub(crate) struct Handed {
    ticket: Ticket,
    ack: Ack,
    begun: Instant,
}

/// Events that may be checked on a thread that drives connections: more would let others wait.
const FEW: usize = 256;

/// When to look again whether there is room in line.
const ROOM: Duration = Duration::from_millis(2);

/// When to look again whether a server that opens or replays is ready.
const SOON: Duration = Duration::from_secs(1);

impl Server {
    /// What is served.
    ///
    /// # Errors
    /// 503 while it is being opened.
    pub fn served(&self) -> Result<&Served, Refused> {
        self.served.get().ok_or_else(|| not_yet("opening its artifact and its log of record", "opening"))
    }

    /// As [`served`](Server::served).
    ///
    /// # Errors
    /// As [`served`](Server::served).
    pub fn service(&self) -> Result<&Arc<Service>, Refused> {
        Ok(&self.served()?.service)
    }

    /// Asks, on the caller's terms.
    ///
    /// # Errors
    /// [`Refused`], at the latest when the deadline has passed.
    pub async fn ask(&self, call: &Call, read: Read, seen: Seen) -> Result<Answer, Refused> {
        self.check_size(&read)?;
        let begun = Instant::now();
        let terms = Terms {
            deadline: call.deadline,
            tenant: call.tenant.clone(),
            min_seq: seen.min_seq,
            max_staleness: seen.max_staleness_ms.map(Duration::from_millis),
        };
        let answering = self.served()?.scheduler.submit(read, terms).instrument(tracing::debug_span!("answer"));
        let answered = self.by(call.deadline, answering, "nothing was changed").await?;
        self.metrics.stage(Stage::Answer, begun.elapsed());
        let answer = answered?;
        self.metrics.seen(answer.position.log_seq);
        Ok(answer)
    }

    fn check_size(&self, read: &Read) -> Result<(), Refused> {
        match read {
            Read::Score { queries, during } => {
                LimitsSpec::count("queries", queries.len(), self.limits.pairs)?;
                LimitsSpec::count("during", during.len(), self.limits.events)
            }
            Read::Rank(query) => {
                LimitsSpec::count("candidates", query.candidates.as_ref().map_or(0, Vec::len), self.limits.candidates)
            }
            _ => Ok(()),
        }
    }

    /// Lets events happen, and waits for what their `ack` asks for.
    ///
    /// # Errors
    /// [`Refused`]: none of them happens, but where the deadline has passed meanwhile.
    pub async fn tell(&self, call: &Call, request: IngestRequest) -> Result<Receipt, Refused> {
        let handed = self.hand_in(request).await?;
        self.receipt(call, handed).await
    }

    /// Checks events and puts them in line.
    ///
    /// # Errors
    /// [`Refused`]: none of them happens.
    pub async fn hand_in(&self, request: IngestRequest) -> Result<Handed, Refused> {
        LimitsSpec::count("events", request.events.len(), self.limits.events)?;
        let (ack, begun, service) = (request.ack, Instant::now(), self.service()?.clone());
        let ticket = if request.events.len() <= FEW {
            service.submit(request)?
        } else {
            let service = service.clone();
            off_the_reactor(move || service.submit(request)).await??
        };
        self.metrics.taken(service.taken_seq());
        Ok(Handed { ticket, ack, begun })
    }

    /// As [`hand_in`](Server::hand_in), waiting for room as long as the limits allow: who streams events is not read from meanwhile.
    ///
    /// # Errors
    /// As [`hand_in`](Server::hand_in).
    pub async fn hand_in_patiently(&self, request: IngestRequest) -> Result<Handed, Refused> {
        let begun = Instant::now();
        loop {
            match self.hand_in(request.clone()).await {
                Err(refused) if refused.kind == Kind::Busy && begun.elapsed() < self.limits.wait() => {
                    tokio::time::sleep(ROOM).await
                }
                handed => return handed,
            }
        }
    }

    /// Waits for the receipt of what was handed in.
    ///
    /// # Errors
    /// As [`tell`](Server::tell).
    pub async fn receipt(&self, call: &Call, handed: Handed) -> Result<Receipt, Refused> {
        let waiting = handed.ticket.instrument(tracing::debug_span!("ingest"));
        let receipt = self
            .by(call.deadline, waiting, "the events may happen still; tell them again under the same ids to be sure")
            .await?;
        self.metrics.acknowledged(handed.ack, handed.begun.elapsed());
        Ok(receipt?)
    }

    /// Waits until the deadline, or as long as the limits allow.
    pub async fn by<T>(
        &self,
        deadline: Option<Instant>,
        work: impl Future<Output = T>,
        then: &str,
    ) -> Result<T, Refused> {
        let longest = Instant::now() + self.limits.wait();
        let deadline = deadline.map_or(longest, |deadline| deadline.min(longest));
        let late = |_| Refused::new(Kind::Deadline, format!("the deadline has passed; {then}"));
        tokio::time::timeout_at(deadline.into(), work).await.map_err(late)
    }

    /// Whether answers are of now, and events are taken, but by a server that follows another.
    ///
    /// # Errors
    /// 503 with what the server is doing instead.
    pub fn ready(&self) -> Result<(), Refused> {
        let stopping = *self.phase.borrow() != Phase::Up;
        match if stopping { Readiness::Draining } else { self.service()?.readiness() } {
            Readiness::Ready | Readiness::Following => Ok(()),
            other @ Readiness::Recovering { .. } => Err(recovering(&other)),
            other @ Readiness::Draining => {
                Err(Refused::new(Kind::Unavailable, other.to_string()).with("status", "draining"))
            }
            other @ Readiness::Broken { .. } => {
                Err(Refused::new(Kind::Unavailable, other.to_string()).with("status", "broken"))
            }
        }
    }

    /// Whether everything durable is applied, so that there is anything to ask.
    ///
    /// # Errors
    /// 503 with how far it has come.
    pub fn caught_up(&self) -> Result<(), Refused> {
        match self.service()?.readiness() {
            other @ Readiness::Recovering { .. } => Err(recovering(&other)),
            _ => Ok(()),
        }
    }

    /// Resolves with a refusal when streams have to end.
    pub async fn closing(&self) -> Refused {
        // A channel whose sender is gone is closing too.
        let _ = self.phase.clone().wait_for(|phase| *phase == Phase::Closing).await;
        Refused::new(Kind::Unavailable, "the server is stopping; go on elsewhere, or with a new stream later")
    }

    /// Names the weights that answer now.
    ///
    /// # Errors
    /// As [`served`](Server::served).
    pub fn model(&self) -> Result<String, Refused> {
        Ok(self.service()?.engine().manifest().model_version())
    }

    /// Parts of the state that keep what events have changed there when these are taken back.
    ///
    /// # Errors
    /// While there is no service.
    pub fn remains(&self) -> Result<Vec<&'static str>, Refused> {
        Ok(self.service()?.engine().keeps_of_retracted())
    }
}

fn not_yet(doing: impl Into<String>, status: &str) -> Refused {
    let refused = Refused::new(Kind::Unavailable, format!("the server is {}; try again soon", doing.into()));
    Refused { retry_after: Some(SOON), ..refused.with("status", status) }
}

/// With how far it has come.
fn recovering(readiness: &Readiness) -> Refused {
    let refused = not_yet(readiness.to_string(), "recovering");
    let Readiness::Recovering { applied, of } = *readiness else { return refused };
    refused.with("applied", applied).with("of", of)
}

/// Does work that other connections should not wait for.
///
/// # Errors
/// 500 if it panics.
pub(crate) async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refused::broken())
}

impl From<IngestError> for Refused {
    fn from(error: IngestError) -> Refused {
        let said = error.to_string();
        match error {
            IngestError::Refused(error) => error.into(),
            // About as long as a full line takes to be applied.
            IngestError::Full { .. } => {
                Refused { retry_after: Some(Duration::from_millis(500)), ..Refused::new(Kind::Busy, said) }
            }
            IngestError::NotReady(_) | IngestError::Log(_) | IngestError::NotApplied(_) => {
                Refused::new(Kind::Unavailable, said)
            }
        }
    }
}
