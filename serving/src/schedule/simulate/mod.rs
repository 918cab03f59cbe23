//! Simulates the policies on a trace, in virtual time. The policy is the server's own code; only the times of the
//! machine are simulated.
pub(crate) mod arrivals;
pub(crate) mod outcome;
#[cfg(test)]
pub(crate) mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use tempograph_framework::{Draw, Purpose, RandomNumbers};

use crate::schedule::policy::cost::Size;
use crate::schedule::policy::job::{Batch, Job, ReadKind, WorkerAction};
use crate::schedule::policy::queue::Queue;
use crate::schedule::policy::spec::SchedulerSpec;

/// A read of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// When it arrives.
    pub at: Duration,
    /// Its tenant.
    pub tenant: Arc<str>,
    /// Number of pairs to score, or of candidates to rank.
    pub items: usize,
    /// Whether its items are ranked, in chunks, or scored with those of other reads.
    pub rank: bool,
    /// Time from its arrival until its deadline.
    pub within: Duration,
}

/// The simulated times of passes: `fixed + items * item`, times a random factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Number of workers.
    pub workers: usize,
    /// Fixed time of a pass.
    pub fixed: Duration,
    /// Time of one pair or candidate.
    pub item: Duration,
    /// Largest relative deviation of a pass's time: `0.1` for 10 %.
    pub noise: f64,
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Answered; the latency.
    Answered(Duration),
    /// Refused when it arrived.
    Refused,
    /// Admitted but not answered: it could not meet its deadline any more, or was displaced by a read of another
    /// tenant.
    Dropped,
}

/// The outcome of each read of a trace, in the order of the trace.
pub fn simulate(spec: &SchedulerSpec, machine: Machine, trace: &[Arrival]) -> Vec<ReadOutcome> {
    let queue = Queue::new(spec.clone(), machine.workers);
    let workers = (0..machine.workers).map(|_| Worker::default()).collect();
    let chance = Draw::new(1).of(Purpose::Sampling).at(0, 0);
    let fates = vec![ReadOutcome::Dropped; trace.len()];
    let mut simulation = Simulation {
        queue,
        machine,
        trace,
        workers,
        fates,
        chance,
        chunk: spec.chunk.max(1),
        events: BinaryHeap::new(),
    };
    simulation.run();
    simulation.fates
}

/// The next event of the simulation: a read arrives, a worker's pass ends, or a worker has waited long enough for more
/// reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    Ends(usize),
    Wakes,
}

#[derive(Default)]
struct Worker {
    /// The pass in progress, and when it began.
    pass: Option<(Batch<usize>, Duration)>,
    /// The long job that continues after the pass.
    long: Option<Long>,
}

struct Long {
    job: Job<usize>,
    /// Items that are not in a chunk yet.
    left: usize,
    /// Total time of its chunks.
    took: Duration,
}

struct Simulation<'a> {
    queue: Queue<usize>,
    machine: Machine,
    trace: &'a [Arrival],
    workers: Vec<Worker>,
    fates: Vec<ReadOutcome>,
    chance: RandomNumbers,
    chunk: usize,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
}

impl Simulation<'_> {
    fn run(&mut self) {
        self.events
            .extend(self.trace.iter().enumerate().map(|(read, arrival)| Reverse((arrival.at, Event::Arrives(read)))));
        while let Some(Reverse((now, event))) = self.events.pop() {
            match event {
                Event::Arrives(read) => self.arrives(now, read),
                Event::Ends(worker) => self.ends(now, worker),
                Event::Wakes => {}
            }
            for worker in 0..self.workers.len() {
                if self.workers[worker].pass.is_none() && !self.turns(now, worker) {
                    break;
                }
            }
        }
    }

    fn arrives(&mut self, now: Duration, read: usize) {
        let Arrival { tenant, items, rank, within, .. } = &self.trace[read];
        let kind = if *rank { ReadKind::Rank } else { ReadKind::Score };
        let job =
            Job { read, kind, size: Size::of(*items), tenant: tenant.clone(), arrived: now, deadline: now + *within };
        if self.queue.admit(now, job).is_err() {
            self.fates[read] = ReadOutcome::Refused;
        }
    }

    /// An idle worker takes its next job. Returns whether there was one.
    fn turns(&mut self, now: Duration, worker: usize) -> bool {
        let mut late = Vec::new();
        match self.queue.next(now, &mut late) {
            WorkerAction::Run(batch) if batch.kind.yields() => {
                let Some(job) = batch.jobs.into_iter().next() else { return false };
                self.workers[worker].long = Some(Long { left: job.size.items, job, took: Duration::ZERO });
                self.next_chunk(now, worker);
                true
            }
            WorkerAction::Run(batch) => {
                self.begins(now, worker, batch);
                true
            }
            WorkerAction::Wait(until) => {
                self.events.push(Reverse((until, Event::Wakes)));
                false
            }
            WorkerAction::Idle => false,
        }
    }

    fn begins(&mut self, now: Duration, worker: usize, batch: Batch<usize>) {
        if !batch.kind.yields() {
            self.queue.set_running(now, worker, batch.kind, batch.size, batch.size.items);
        }
        let plain = self.machine.fixed.as_secs_f64() + batch.size.items as f64 * self.machine.item.as_secs_f64();
        let factor = 1.0 + self.machine.noise * (2.0 * self.chance.uniform_f64() - 1.0);
        self.events.push(Reverse((now + Duration::from_secs_f64(plain * factor), Event::Ends(worker))));
        self.workers[worker].pass = Some((batch, now));
    }

    /// Begins the next chunk of a worker's long job.
    fn next_chunk(&mut self, now: Duration, worker: usize) {
        let Some(long) = &mut self.workers[worker].long else { return };
        let size = Size::of(self.chunk.min(long.left));
        self.queue.set_running(now, worker, long.job.kind, long.job.size, long.left);
        long.left -= size.items;
        let chunk = Batch { kind: long.job.kind, jobs: Vec::new(), size, deadline: long.job.deadline };
        self.begins(now, worker, chunk);
    }

    fn ends(&mut self, now: Duration, worker: usize) {
        let Some((batch, began)) = self.workers[worker].pass.take() else { return };
        for job in &batch.jobs {
            self.fates[job.read] = ReadOutcome::Answered(now - job.arrived);
        }
        if !batch.kind.yields() {
            self.queue.learn(batch.kind, batch.size, now - began);
        }
        let Some(long) = &mut self.workers[worker].long else { return self.queue.set_idle(worker) };
        if batch.kind.yields() {
            self.queue.charge(&long.job.tenant, now - began);
            long.took += now - began;
        }
        if long.left == 0 {
            self.queue.learn(long.job.kind, long.job.size, long.took);
            self.fates[long.job.read] = ReadOutcome::Answered(now - long.job.arrived);
            self.workers[worker].long = None;
            return self.queue.set_idle(worker);
        }
        let (deadline, tenant) = (long.job.deadline, long.job.tenant.clone());
        self.queue.set_running(now, worker, long.job.kind, long.job.size, long.left);
        let ends = self.queue.ends(worker);
        match self.queue.preempting_batch(now, deadline, ends, &tenant, &mut Vec::new()) {
            Some(batch) => self.begins(now, worker, batch),
            None => self.next_chunk(now, worker),
        }
    }
}
