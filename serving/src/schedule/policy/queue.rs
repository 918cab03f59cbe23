//! The policy: who is let in, and what is answered next. Knows no clock and no thread: a server and a simulation drive the same code.

use std::sync::Arc;
use std::time::Duration;

use crate::schedule::policy::cost::{CostModel, Size};
use crate::schedule::policy::job::{Batch, Job, Key, ReadKind, WorkerAction};
use crate::schedule::policy::spec::{Policy, SchedulerSpec};
use crate::schedule::policy::stream::ArrivalStats;
use crate::schedule::policy::tenants::{JobLocation, Tenants};

/// Share of the time that reads keep the workers busy below which nobody is made to wait for company: there is nothing to be saved.
const BUSY: f64 = 0.5;

/// Reads that wait, and those that are being answered. `T` is what comes back with a job.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    pub(crate) spec: SchedulerSpec,
    pub(crate) tenants: Tenants<T>,
    pub(crate) costs: [CostModel; ReadKind::COUNT],
    pub(crate) running: Vec<Running>,
    arrivals: ArrivalStats,
    numbered: u64,
}

/// What a worker is busy with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Running {
    /// When it will be done.
    pub until: Duration,
    /// When a tighter deadline may come between, where that is sooner.
    pub yields: Duration,
    pub deadline: Duration,
}

/// Why a read does not wait here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AdmissionError {
    /// There is no room for it.
    Full { waiting: usize, retry_after: Duration },
    /// It would be late.
    TooLate { needs: Duration, has: Duration, retry_after: Duration },
}

impl<T> Queue<T> {
    /// A queue for so many workers.
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

    /// Lets a job wait. To make room for a tenant with few, the last job of one with many may have to go: it is returned.
    ///
    /// # Errors
    /// The job, and why it is not let in.
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

    /// First come, first served knows no tenants.
    fn place(&mut self, tenant: &Arc<str>) -> usize {
        if self.spec.policy == Policy::Deadline { self.tenants.place(tenant) } else { 0 }
    }

    /// Whether there is room, and whose place has to be given up for it.
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

    /// Seconds that a job adds to what waits: its part of a full pass, or the pass it takes alone.
    pub(crate) fn seconds(&self, kind: ReadKind, size: Size) -> f64 {
        let cost = &self.costs[kind as usize];
        if kind.shares() {
            return cost.adds(size) + cost.fixed() * (size.items as f64 / self.spec.max_batch as f64).min(1.0);
        }
        cost.predict(size)
    }

    /// What a worker does next. Jobs that can no more be answered in time go to `late`.
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

    /// What comes between two chunks of a long job of this deadline: jobs of tighter deadlines, of tenants whose turn it is.
    pub fn preempting_batch(
        &mut self,
        now: Duration,
        deadline: Duration,
        tenant: &Arc<str>,
        late: &mut Vec<Job<T>>,
    ) -> Option<Batch<T>> {
        if self.spec.policy == Policy::Fifo {
            return None;
        }
        let owner = self.tenants.place(tenant);
        let short = |kind: ReadKind| !kind.yields();
        loop {
            let location = self.pick(short, Some(owner)).filter(|location| location.key.order < deadline)?;
            let Some(job) = self.take(now, location, late) else { continue };
            return Some(self.fill_batch(now, Batch::of(job), Some(deadline), late));
        }
    }

    /// Adds jobs that share the pass, as long as none in it becomes late by that.
    fn fill_batch(
        &mut self,
        now: Duration,
        mut batch: Batch<T>,
        before: Option<Duration>,
        late: &mut Vec<Job<T>>,
    ) -> Batch<T> {
        let kind = batch.kind;
        while kind.shares() && batch.size.items < self.spec.max_batch {
            let Some(location) = self
                .pick(|other| other == kind, None)
                .filter(|location| before.is_none_or(|end| location.key.order < end))
            else {
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

    /// Whether a pass that begins now ends by `deadline`, with a margin.
    fn fits(&self, now: Duration, kind: ReadKind, size: Size, deadline: Duration) -> bool {
        let cost = &self.costs[kind as usize];
        self.spec.policy == Policy::Fifo || now + duration(cost.margin() * cost.predict(size)) <= deadline
    }

    /// The job whose turn it is. With `beside`, a tenant whose long job could go on takes part in the round, and it may be its turn.
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

    /// Takes a job out of its line and off its tenant's share; into `late` where it would be.
    fn take(&mut self, now: Duration, location: JobLocation, late: &mut Vec<Job<T>>) -> Option<Job<T>> {
        let (job, cost) = self.tenants.take(location)?;
        if self.spec.policy == Policy::Deadline && now + self.alone(job.kind, job.size) > job.deadline {
            late.push(job);
            return None;
        }
        // A long job pays for its chunks one by one.
        if !job.kind.yields() {
            self.tenants.charge(location.tenant, cost);
        }
        Some(job)
    }

    /// How long a job takes by itself, as far as anything is known of it.
    fn alone(&self, kind: ReadKind, size: Size) -> Duration {
        let cost = &self.costs[kind as usize];
        if cost.is_trusted() { duration(cost.predict(size)) } else { Duration::ZERO }
    }

    /// Until when it is worth waiting for more reads to share the next pass, if it is.
    fn batching_deadline(&self, now: Duration) -> Option<Duration> {
        let first = self.tenants.first(|_| true).filter(|first| first.kind.shares())?;
        if self.spec.policy == Policy::Fifo || self.tenants.waiting() >= self.spec.max_batch || !self.is_busy() {
            return None;
        }
        let (_, job) = self.tenants.get(first.tenant).queue(first.kind).first()?;
        let cost = &self.costs[first.kind as usize];
        let everyone = Size::of(self.tenants.waiting() + job.size.items);
        // The next read is due about a gap after the newest; where it has not come by two, nobody knows.
        let due = self.arrivals.last()? + duration(2.0 * self.arrivals.gap()?);
        let in_time = job.deadline.checked_sub(duration(2.0 * cost.margin() * cost.predict(everyone)))?;
        let until = due.min(in_time).min(job.arrived + self.spec.max_wait());
        (until > now).then_some(until)
    }

    /// Whether answering every read by itself would keep the workers busy for more than half of the time.
    fn is_busy(&self) -> bool {
        let alone = self.costs[ReadKind::Score as usize].predict(Size::of(1));
        self.arrivals.gap().is_some_and(|gap| alone > BUSY * gap * self.running.len() as f64)
    }

    /// A worker begins a pass of this size, or goes on with a long job of it, of which so many items are left.
    pub fn set_running(
        &mut self,
        now: Duration,
        worker: usize,
        kind: ReadKind,
        whole: Size,
        left: usize,
        deadline: Duration,
    ) {
        let takes = self.costs[kind as usize].predict(whole);
        // Chunks of a job cost alike, whatever is fixed in the cost of a whole one.
        let part = |items: usize| now + duration(takes * items as f64 / whole.items.max(1) as f64);
        let until = part(left);
        let yields = if kind.yields() { part(left.min(self.spec.chunk)) } else { until };
        self.running[worker] = Running { until, yields, deadline };
    }

    /// A pass, or all of a long job, took so long: what is foretold of the next ones follows.
    pub fn learn(&mut self, kind: ReadKind, size: Size, took: Duration) {
        self.costs[kind as usize].learn(size, took);
    }

    /// A chunk of a tenant's long job took so long.
    pub fn charge(&mut self, tenant: &Arc<str>, took: Duration) {
        let place = self.place(tenant);
        self.tenants.charge(place, took.as_secs_f64());
    }

    /// A worker has nothing to do.
    pub fn set_idle(&mut self, worker: usize) {
        self.running[worker] = Running::default();
    }

    /// Everything that waits, which will not be answered.
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
