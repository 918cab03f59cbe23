//! The policy: which reads are admitted, and which is answered next. It has no clock and no threads, so that a server
//! and a simulation run the same code.

use std::sync::Arc;
use std::time::Duration;

use crate::schedule::policy::cost::{CostModel, Size};
use crate::schedule::policy::job::{Batch, Job, Key, ReadKind, WorkerAction};
use crate::schedule::policy::spec::{Policy, SchedulerSpec};
use crate::schedule::policy::stream::ArrivalStats;
use crate::schedule::policy::tenants::{JobLocation, Tenants};

/// Load of the workers below which no read waits for others to share its pass, since sharing saves nothing then.
const BUSY: f64 = 0.5;

/// Waiting reads, and the passes in progress. `T` is the caller's part of a job.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    pub(crate) spec: SchedulerSpec,
    pub(crate) tenants: Tenants<T>,
    pub(crate) costs: [CostModel; ReadKind::COUNT],
    pub(crate) running: Vec<Running>,
    arrivals: ArrivalStats,
    numbered: u64,
}

/// The work of a busy worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Running {
    /// Predicted end.
    pub until: Duration,
    /// Predicted time at which a shorter job may run in between, if that is sooner.
    pub yields: Duration,
}

/// Why a read is not admitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AdmissionError {
    /// The queue is full.
    Full { waiting: usize, retry_after: Duration },
    /// The answer would come after the deadline.
    TooLate { needs: Duration, has: Duration, retry_after: Duration },
}

impl<T> Queue<T> {
    /// A queue for this number of workers.
    pub fn new(spec: SchedulerSpec, workers: usize) -> Queue<T> {
        let running = vec![Running::default(); workers];
        Queue {
            spec,
            tenants: Tenants::default(),
            costs: ReadKind::ALL.map(ReadKind::cost_model),
            running,
            arrivals: ArrivalStats::default(),
            numbered: 0,
        }
    }

    /// Admits a job. If the queue is full, the last job of the tenant with most waiting jobs may be displaced for a
    /// tenant with fewer; it is returned.
    ///
    /// # Errors
    /// The job, and why it is not admitted.
    pub fn admit(&mut self, now: Duration, job: Job<T>) -> Result<Option<Job<T>>, (Job<T>, AdmissionError)> {
        let place = self.place(&job.tenant);
        self.arrivals.arrived(now);
        self.tenants.get_mut(place).stream.arrived(now);
        let order = if self.spec.policy == Policy::Deadline { job.deadline } else { job.arrived };
        self.numbered += 1;
        let location = JobLocation { tenant: place, kind: job.kind, key: Key { order, number: self.numbered } };
        let allowed =
            self.has_room(location).and_then(|displaced| self.will_be_in_time(now, location, &job).map(|()| displaced));
        match allowed {
            Ok(displaced) => {
                let displaced = displaced.and_then(|location| self.tenants.take(location)).map(|(job, _)| job);
                let cost = self.seconds(job.kind, job.size);
                self.tenants.push(location, job, cost);
                Ok(displaced)
            }
            Err(denied) => Err((job, denied)),
        }
    }

    /// First come, first served puts all jobs into one tenant's queue.
    fn place(&mut self, tenant: &Arc<str>) -> usize {
        if self.spec.policy == Policy::Deadline { self.tenants.place(tenant) } else { 0 }
    }

    /// Whether there is room, and which job has to be displaced for it.
    fn has_room(&self, location: JobLocation) -> Result<Option<JobLocation>, AdmissionError> {
        let own = self.tenants.get(location.tenant);
        let full = |waiting: usize, seconds: f64| AdmissionError::Full {
            waiting,
            retry_after: at_least_a_millisecond(seconds / 2.0),
        };
        let most = if self.spec.policy == Policy::Deadline {
            self.spec.tenant_queue.min(self.spec.queue)
        } else {
            self.spec.queue
        };
        if own.waiting() >= most {
            return Err(full(own.waiting(), own.backlog()));
        }
        if self.tenants.waiting() < self.spec.queue {
            return Ok(None);
        }
        let everything = || self.tenants.active().map(|(_, tenant)| tenant.backlog()).sum();
        let Some((tenant, longest)) =
            self.tenants.longest().filter(|(_, longest)| longest.waiting() > own.waiting() + 1)
        else {
            return Err(full(own.waiting(), everything()));
        };
        let lasts = ReadKind::ALL.into_iter().filter_map(|kind| Some((longest.queue(kind).last()?, kind)));
        Ok(lasts.max().map(|(key, kind)| JobLocation { tenant, kind, key }))
    }

    /// Predicted seconds that a job adds to the queue: its share of a full pass, or the whole pass if it shares none.
    pub(crate) fn seconds(&self, kind: ReadKind, size: Size) -> f64 {
        let cost = &self.costs[kind as usize];
        if kind.shares() {
            return cost.adds(size) + cost.fixed() * (size.items as f64 / self.spec.max_batch as f64).min(1.0);
        }
        cost.predict(size)
    }

    /// The next action of a worker. Jobs that cannot be in time any more go to `late`.
    pub fn next(&mut self, now: Duration, late: &mut Vec<Job<T>>) -> WorkerAction<T> {
        loop {
            if let Some(until) = self.batching_deadline(now) {
                return WorkerAction::Wait(until);
            }
            let Some(location) = self.pick(|_| true, None) else { return WorkerAction::Idle };
            let Some(job) = self.take(now, location, late) else { continue };
            return WorkerAction::Run(self.fill_batch(now, Batch::of(job), None, late));
        }
    }

    /// The batch that runs between two chunks of a long job with this deadline, which would be done at `ends`: jobs of
    /// tenants whose turn it is. Jobs of the long job's own tenant run if they have a tighter deadline, or if the long job
    /// is in time all the same.
    pub fn preempting_batch(
        &mut self,
        now: Duration,
        deadline: Duration,
        ends: Duration,
        tenant: &Arc<str>,
        late: &mut Vec<Job<T>>,
    ) -> Option<Batch<T>> {
        if self.spec.policy == Policy::Fifo {
            return None;
        }
        let owner = self.tenants.place(tenant);
        let short = |kind: ReadKind| !kind.yields();
        loop {
            let has_time = ends <= deadline;
            let may = |location: &JobLocation| location.tenant != owner || has_time || location.key.order < deadline;
            let location = self.pick(short, Some(owner)).filter(may)?;
            let Some(job) = self.take(now, location, late) else { continue };
            return Some(self.fill_batch(now, Batch::of(job), Some((owner, deadline)).filter(|_| !has_time), late));
        }
    }

    /// Adds jobs that share the pass, as long as none in it becomes late. Those of the tenant in `before` are added only
    /// if they come before the given time in order.
    fn fill_batch(
        &mut self,
        now: Duration,
        mut batch: Batch<T>,
        before: Option<(usize, Duration)>,
        late: &mut Vec<Job<T>>,
    ) -> Batch<T> {
        let kind = batch.kind;
        while kind.shares() && batch.size.items < self.spec.max_batch {
            let Some(location) = self.pick(|other| other == kind, None).filter(|location| {
                before.is_none_or(|(owner, end)| location.tenant != owner || location.key.order < end)
            }) else {
                break;
            };
            let Some((_, job)) = self.tenants.get(location.tenant).queue(kind).first() else { break };
            let (size, deadline) = (batch.size.with(job.size), batch.deadline.min(job.deadline));
            if size.items > self.spec.max_batch || !self.fits(now, kind, size, deadline) {
                break;
            }
            match self.take(now, location, late) {
                Some(job) => batch.push(job),
                None => continue,
            }
        }
        batch
    }

    /// Whether a pass that begins now ends by `deadline`, with the margin.
    fn fits(&self, now: Duration, kind: ReadKind, size: Size, deadline: Duration) -> bool {
        let cost = &self.costs[kind as usize];
        self.spec.policy == Policy::Fifo || now + duration(cost.margin() * cost.predict(size)) <= deadline
    }

    /// The job whose turn it is. The tenant `beside` has a long job that could continue: it takes part in the round,
    /// and `None` means that its turn comes first.
    fn pick(&mut self, wanted: impl Fn(ReadKind) -> bool, beside: Option<usize>) -> Option<JobLocation> {
        let first = self.tenants.first(&wanted)?;
        if self.spec.policy == Policy::Fifo {
            return Some(first);
        }
        if let Some(location) = self.tenants.first_with_credit(&wanted) {
            return Some(location);
        }
        if beside.is_some_and(|owner| self.tenants.credit(owner) > 0.0) {
            return None;
        }
        self.tenants.next_rounds(beside);
        self.tenants.first_with_credit(&wanted)
    }

    /// Removes a job from its queue and charges its tenant. A job that cannot be in time any more goes to `late`.
    fn take(&mut self, now: Duration, location: JobLocation, late: &mut Vec<Job<T>>) -> Option<Job<T>> {
        let (job, cost) = self.tenants.take(location)?;
        if self.spec.policy == Policy::Deadline && now + self.alone(job.kind, job.size) > job.deadline {
            late.push(job);
            return None;
        }
        // A long job is charged for its chunks one by one.
        if !job.kind.yields() {
            self.tenants.charge(location.tenant, cost);
        }
        Some(job)
    }

    /// Predicted time of a job by itself; zero while predictions are not trusted.
    fn alone(&self, kind: ReadKind, size: Size) -> Duration {
        let cost = &self.costs[kind as usize];
        if cost.is_trusted() { duration(cost.predict(size)) } else { Duration::ZERO }
    }

    /// The time until which to wait for more reads to share the next pass; `None` if it is not worth waiting.
    fn batching_deadline(&self, now: Duration) -> Option<Duration> {
        let first = self.tenants.first(|_| true).filter(|first| first.kind.shares())?;
        if self.spec.policy == Policy::Fifo || self.tenants.waiting() >= self.spec.max_batch || !self.is_busy() {
            return None;
        }
        let (_, job) = self.tenants.get(first.tenant).queue(first.kind).first()?;
        let cost = &self.costs[first.kind as usize];
        let everyone = Size::of(self.tenants.waiting() + job.size.items);
        // The next read is expected about one gap after the newest. After two gaps the worker waits no longer.
        let due = self.arrivals.last()? + duration(2.0 * self.arrivals.gap()?);
        let in_time = job.deadline.checked_sub(duration(2.0 * cost.margin() * cost.predict(everyone)))?;
        let until = due.min(in_time).min(job.arrived + self.spec.max_wait());
        (until > now).then_some(until)
    }

    /// Whether the workers would be busy for more than half of the time if each read had a pass of its own.
    fn is_busy(&self) -> bool {
        let alone = self.costs[ReadKind::Score as usize].predict(Size::of(1));
        self.arrivals.gap().is_some_and(|gap| alone > BUSY * gap * self.running.len() as f64)
    }

    /// Notes that a worker begins a pass of this size, or continues a long job of which `left` items remain.
    pub fn set_running(&mut self, now: Duration, worker: usize, kind: ReadKind, whole: Size, left: usize) {
        let takes = self.costs[kind as usize].predict(whole);
        // The chunks of a job cost about the same, so the fixed cost of the whole job is spread over its items.
        let part = |items: usize| now + duration(takes * items as f64 / whole.items.max(1) as f64);
        let until = part(left);
        let chunk = Duration::from_micros(self.spec.chunk_us);
        let yields = if kind.yields() { part(left.min(self.spec.chunk)).min(now + chunk) } else { until };
        self.running[worker] = Running { until, yields };
    }

    /// Updates the cost model with the time of a pass, or of a whole long job.
    pub fn learn(&mut self, kind: ReadKind, size: Size, took: Duration) {
        self.costs[kind as usize].learn(size, took);
    }

    /// Charges a tenant for one chunk of its long job.
    pub fn charge(&mut self, tenant: &Arc<str>, took: Duration) {
        let place = self.place(tenant);
        self.tenants.charge_chunk(place, took.as_secs_f64());
    }

    /// Items of a long job that are expected to take the time of a chunk.
    pub fn expected_chunk(&self, kind: ReadKind) -> usize {
        let [_, item, _] = self.costs[kind as usize].parts();
        (self.spec.chunk_us as f64 * 1e-6 / item.max(1e-9)) as usize
    }

    /// Predicted end of a worker's pass, or of its long job.
    pub fn ends(&self, worker: usize) -> Duration {
        self.running[worker].until
    }

    /// Notes that a worker is idle.
    pub fn set_idle(&mut self, worker: usize) {
        self.running[worker] = Running::default();
    }

    /// Removes and returns all waiting jobs.
    pub fn clear(&mut self) -> Vec<Job<T>> {
        let mut all = Vec::new();
        while let Some(location) = self.tenants.first(|_| true) {
            all.extend(self.tenants.take(location).map(|(job, _)| job));
        }
        all
    }
}

pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

pub(crate) fn at_least_a_millisecond(seconds: f64) -> Duration {
    duration(seconds).max(Duration::from_millis(1))
}
