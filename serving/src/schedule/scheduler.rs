//! The scheduler: reads are submitted to it, and its threads answer them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use crate::request::RankQuery;
use crate::schedule::freshness::Freshness;
use crate::schedule::policy::cost::Size;
use crate::schedule::policy::job::{Job, ReadKind};
use crate::schedule::policy::queue::{AdmissionError, Queue};
use crate::schedule::policy::spec::SchedulerSpec;
use crate::schedule::read::{Answer, ReadError, ReadOptions, ReadRequest};
use crate::schedule::status::SchedulerStatus;
use crate::service::{Readiness, Service};

/// Answers reads by their deadlines, on its own threads. Dropping it ends them.
#[derive(Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// State that the threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub service: Arc<Service>,
    pub spec: SchedulerSpec,
    /// The start of the queue's times.
    began: Instant,
    state: Mutex<State>,
    /// A read was enqueued, or the scheduler is ending.
    pub work_available: Condvar,
    freshness: Mutex<Freshness>,
    /// Limits the reads that wait for events to be applied.
    room: Semaphore,
}

/// State that changes under one lock.
#[derive(Debug)]
pub(super) struct State {
    pub queue: Queue<Pending>,
    pub counts: SchedulerStatus,
    pub ending: bool,
}

/// A read and the channel for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub read: ReadRequest,
    pub answer: oneshot::Sender<Result<Answer, ReadError>>,
}

impl Scheduler {
    /// Starts a scheduler for the reads of a service.
    ///
    /// # Errors
    /// The system's error when threads cannot be started.
    pub fn start(service: Arc<Service>, spec: &SchedulerSpec) -> std::io::Result<Scheduler> {
        let workers = spec.workers();
        let state =
            State { queue: Queue::new(spec.clone(), workers), counts: SchedulerStatus::default(), ending: false };
        let shared = Arc::new(Shared {
            service,
            spec: spec.clone(),
            began: Instant::now(),
            state: Mutex::new(state),
            work_available: Condvar::new(),
            freshness: Mutex::default(),
            room: Semaphore::new(spec.queue),
        });
        let mut scheduler = Scheduler { shared: shared.clone(), threads: Vec::new() };
        for worker in 0..workers {
            let shared = shared.clone();
            scheduler.threads.push(Builder::new().name(format!("answer-{worker}")).spawn(move || shared.work(worker))?);
        }
        Ok(scheduler)
    }

    /// Answers a read, or refuses it. If the future is dropped, the read is not computed, or not any further. Must be awaited in a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`ReadError`], as soon as it is known.
    pub async fn submit(&self, read: ReadRequest, options: ReadOptions) -> Result<Answer, ReadError> {
        let shared = &self.shared;
        if let Readiness::Recovering { .. } = shared.service.readiness() {
            return Err(ReadError::Unavailable("replaying its log"));
        }
        if options.max_staleness.is_some() && shared.service.readiness() == Readiness::Following {
            // A follower does not know which events the writing server has accepted.
            let wanted =
                "an answer of a bounded age is wanted, which only the server that takes the events can promise".into();
            return Err(ReadError::Stale { wanted, at: shared.service.position().log_seq });
        }
        let deadline = options.deadline.unwrap_or_else(|| Instant::now() + shared.spec.deadline());
        shared.wait_for_consistency(&options, deadline).await?;
        let answer = shared.enqueue(read, &options, deadline)?.await.map_err(|_| ReadError::Broken)??;
        match shared.required(&options).filter(|&required| answer.position.log_seq < required) {
            Some(_) => Err(stale(&options, answer.position.log_seq)),
            None => Ok(answer),
        }
    }

    /// All counts and estimates of the scheduler.
    pub fn status(&self) -> SchedulerStatus {
        let state = self.shared.state();
        let mut status = state.counts.clone();
        state.queue.describe(&mut status);
        status
    }
}

impl Drop for Scheduler {
    /// Refuses waiting reads, and waits for the passes in progress.
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.shared.state();
            state.ending = true;
            state.queue.clear()
        };
        self.shared.work_available.notify_all();
        waiting.into_iter().for_each(|job| job.read.refuse(ReadError::Unavailable("stopping")));
        for thread in self.threads.drain(..) {
            // A panic of a worker was already reported in its thread.
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // The policy does not panic half-way through a change; if it does, its state is old but consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a read can meet the required consistency.
    async fn wait_for_consistency(&self, options: &ReadOptions, deadline: Instant) -> Result<(), ReadError> {
        let Some(required) = self.required(options) else { return Ok(()) };
        let at = self.service.position().log_seq;
        if at >= required {
            return Ok(());
        }
        let Ok(_place) = self.room.try_acquire() else {
            let retry_after = Duration::from_millis(10);
            return Err(ReadError::Full { waiting: self.spec.queue, most: self.spec.queue, retry_after });
        };
        let reached = tokio::time::timeout_at(deadline.into(), self.service.reach(required)).await;
        reached.map(drop).map_err(|_| stale(options, self.service.position().log_seq))
    }

    /// How many events an answer at this time must have seen.
    fn required(&self, options: &ReadOptions) -> Option<u64> {
        let fresh = options.max_staleness.map(|bound| {
            let (now, taken) = (self.now(), self.service.submitted_seq());
            let mut freshness = self.freshness.lock().unwrap_or_else(PoisonError::into_inner);
            freshness.note(now, taken);
            freshness.required(now, bound, taken)
        });
        options.min_seq.max(fresh)
    }

    /// Enqueues a read.
    fn enqueue(
        &self,
        read: ReadRequest,
        options: &ReadOptions,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Answer, ReadError>>, ReadError> {
        let (kind, size) = self.size(&read);
        let (answer, receiver) = oneshot::channel();
        let deadline = deadline.saturating_duration_since(self.began);
        let mut state = self.state();
        if state.ending {
            return Err(ReadError::Unavailable("stopping"));
        }
        let arrived = self.now();
        let job = Job { read: Pending { read, answer }, kind, size, tenant: options.tenant.clone(), arrived, deadline };
        match state.queue.admit(arrived, job) {
            Ok(displaced) => {
                state.counts.admitted += 1;
                state.counts.dropped += u64::from(displaced.is_some());
                drop(state);
                self.work_available.notify_one();
                if let Some(displaced) = displaced {
                    displaced.read.refuse(self.full(0, Duration::from_millis(1)));
                }
                Ok(receiver)
            }
            Err((_, AdmissionError::Full { waiting, retry_after })) => {
                state.counts.refused_full += 1;
                Err(self.full(waiting, retry_after))
            }
            Err((_, AdmissionError::TooLate { needs, has, retry_after })) => {
                state.counts.refused_late += 1;
                Err(ReadError::TooLate { needs, has, retry_after })
            }
        }
    }

    fn full(&self, waiting: usize, retry_after: Duration) -> ReadError {
        ReadError::Full { waiting, most: self.spec.queue, retry_after }
    }

    /// Kind and size of a read.
    fn size(&self, read: &ReadRequest) -> (ReadKind, Size) {
        let engine = self.service.engine();
        match read {
            ReadRequest::Score { queries, during } => {
                let size = Size { items: queries.len(), neighbours: engine.neighbours_of(queries) };
                let kind = match (queries.len() > self.spec.chunk, during.is_empty()) {
                    (true, _) => ReadKind::ScoreMany,
                    (false, true) => ReadKind::Score,
                    (false, false) => ReadKind::ScoreShown,
                };
                (kind, size)
            }
            ReadRequest::Rank(RankQuery { candidates: Some(candidates), .. }) => {
                (ReadKind::Rank, Size::of(candidates.len()))
            }
            ReadRequest::Rank(_) => (ReadKind::TopK, Size::of(engine.destinations())),
            ReadRequest::Embedding { .. } => (ReadKind::Embedding, Size::of(1)),
            ReadRequest::Explain(_) => (ReadKind::Explain, Size::of(1)),
        }
    }
}

impl Pending {
    pub fn refuse(self, refusal: ReadError) {
        // The caller may not wait any more.
        let _ = self.answer.send(Err(refusal));
    }
}

fn stale(options: &ReadOptions, at: u64) -> ReadError {
    let wanted = match (options.min_seq, options.max_staleness) {
        (Some(seq), None) => format!("an answer is wanted that has seen {seq} events"),
        (Some(seq), Some(bound)) => {
            format!("an answer is wanted that has seen {seq} events and is no older than {} ms", bound.as_millis())
        }
        (None, bound) => {
            format!("an answer is wanted that is no older than {} ms", bound.unwrap_or_default().as_millis())
        }
    };
    ReadError::Stale { wanted, at }
}
