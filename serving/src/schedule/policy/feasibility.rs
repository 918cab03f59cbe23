//! Predicts whether a read will be in time, when it arrives.

use std::time::Duration;

use crate::schedule::policy::cost::Size;
use crate::schedule::policy::job::{Job, Key};
use crate::schedule::policy::queue::{AdmissionError, Queue, at_least_a_millisecond, duration};
use crate::schedule::policy::spec::Policy;
use crate::schedule::policy::tenants::JobLocation;

impl<T> Queue<T> {
    /// Whether a job that arrives now will be in time, and admitted jobs still will be.
    pub(crate) fn will_be_in_time(
        &self,
        now: Duration,
        location: JobLocation,
        job: &Job<T>,
    ) -> Result<(), AdmissionError> {
        let cost = &self.costs[location.kind as usize];
        if self.spec.policy == Policy::Fifo || !cost.is_trusted() {
            return Ok(());
        }
        let has = job.deadline.saturating_sub(now).as_secs_f64();
        let needs = self.seconds_to(now, location, job);
        let excess = (needs - has).max(self.delays_by(now, location, job));
        if excess <= 0.0 {
            return Ok(());
        }
        Err(AdmissionError::TooLate {
            needs: duration(needs),
            has: duration(has),
            retry_after: at_least_a_millisecond(excess),
        })
    }

    /// Predicted seconds until this job has its answer.
    fn seconds_to(&self, now: Duration, location: JobLocation, job: &Job<T>) -> f64 {
        let (own, others) = self.work_before(location);
        let cost = &self.costs[location.kind as usize];
        // The pass may also contain all jobs that are queued before it.
        let company = if location.kind.shares() { self.tenants.waiting() } else { 0 };
        let items = (job.size.items + company).min(self.spec.max_batch.max(job.size.items));
        let pass = if location.kind.yields() {
            self.seconds(location.kind, job.size)
        } else {
            cost.predict(Size { items, neighbours: job.size.neighbours * items / job.size.items.max(1) })
        };
        let workers = self.running.len() as f64;
        self.until_free(now) + cost.margin() * ((own + others) / workers + pass)
    }

    /// Seconds of work that will be done before a job at `location`: of its own tenant, and of the other tenants in the
    /// rounds until then.
    fn work_before(&self, location: JobLocation) -> (f64, f64) {
        let own = self.tenants.get(location.tenant).backlog_before(location.key);
        let parts = self.tenants.parts(Some(location.tenant));
        let mine = parts.of(self.tenants.get(location.tenant));
        let others = self.tenants.active().filter(|&(place, _)| place != location.tenant).map(|(_, other)| {
            let theirs = parts.of(other);
            other.backlog_before(location.key).min(theirs + own * theirs / mine)
        });
        (own, others.sum())
    }

    /// Seconds until a worker can start a job: at the next chunk of a long one.
    fn until_free(&self, now: Duration) -> f64 {
        let free = self.running.iter().map(|running| running.yields.min(running.until));
        free.map(|free| free.saturating_sub(now).as_secs_f64()).fold(f64::INFINITY, f64::min)
    }

    /// By how many seconds this job makes a later job of the same tenant late, at the worst; at most 0 if it makes none
    /// late.
    fn delays_by(&self, now: Duration, location: JobLocation, job: &Job<T>) -> f64 {
        let tenant = self.tenants.get(location.tenant);
        let key = Key { order: job.deadline, ..location.key };
        let (own, others) = self.work_before(location);
        let begun = own + others + self.seconds(location.kind, job.size);
        // Jobs with a later deadline than this are in time even after all of the tenant's work.
        let safe = now + duration(others + tenant.backlog() + begun);
        let mut worst = f64::NEG_INFINITY;
        for kind in crate::schedule::policy::job::ReadKind::ALL {
            let mut done = begun;
            for (later, cost) in tenant.queue(kind).from(key).take_while(|(later, _)| later.deadline < safe) {
                done += cost;
                let has = later.deadline.saturating_sub(now).as_secs_f64();
                worst = worst.max(done / self.running.len() as f64 - has);
            }
        }
        worst
    }
}
