//! The loop of a thread that answers reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::Engine;
use crate::engine::Pace;
use crate::request::{AtPosition, PairQuery, RequestError};
use crate::schedule::policy::cost::Size;
use crate::schedule::policy::job::{Batch, Job, ReadKind, WorkerAction};
use crate::schedule::policy::spec::SchedulerSpec;
use crate::schedule::read::{Answer, AnswerBody, ReadError, ReadRequest};
use crate::schedule::scheduler::{Pending, Shared};

impl Shared {
    /// Answers until the scheduler ends.
    pub fn work(&self, worker: usize) {
        while let Some(batch) = self.next_batch(worker) {
            // A panic is a bug. The callers of this batch get an error, and later reads are still answered.
            let _ = catch_unwind(AssertUnwindSafe(|| self.answer(worker, batch)));
        }
    }

    /// Waits for the next batch; `None` at the end.
    fn next_batch(&self, worker: usize) -> Option<Batch<Pending>> {
        let (mut state, mut late) = (self.state(), Vec::new());
        loop {
            if state.ending {
                return None;
            }
            let now = self.now();
            let turn = state.queue.next(now, &mut late);
            if !late.is_empty() {
                state.counts.dropped += late.len() as u64;
                drop(state);
                late.drain(..).for_each(|job| self.reject_late(job));
                state = self.state();
                if !matches!(turn, WorkerAction::Run(_)) {
                    continue;
                }
            }
            state = match turn {
                WorkerAction::Run(batch) => {
                    state.queue.set_running(now, worker, batch.kind, batch.size, batch.size.items);
                    return Some(batch);
                }
                WorkerAction::Wait(until) => {
                    let wait = until.saturating_sub(now);
                    self.work_available.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                WorkerAction::Idle => {
                    state.queue.set_idle(worker);
                    self.work_available.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
    }

    /// Refuses a read that cannot meet its deadline any more.
    fn reject_late(&self, job: Job<Pending>) {
        let (needs, has) = (self.now().saturating_sub(job.arrived), job.deadline.saturating_sub(job.arrived));
        job.read.refuse(ReadError::TooLate { needs, has, retry_after: Duration::from_millis(1) });
    }

    fn answer(&self, worker: usize, mut batch: Batch<Pending>) {
        batch.jobs.retain(|job| !job.read.answer.is_closed());
        let engine = self.service.engine();
        match batch.kind {
            ReadKind::Score => self.score(&engine, batch.jobs),
            _ => batch.jobs.into_iter().for_each(|job| self.answer_single(worker, &engine, job)),
        }
    }

    /// One pass for the pairs of all jobs.
    fn score(&self, engine: &Engine, jobs: Vec<Job<Pending>>) {
        let queries: Vec<PairQuery> = jobs.iter().flat_map(|job| pairs(&job.read.read)).cloned().collect();
        let size = jobs.iter().fold(Size::default(), |sum, job| sum.with(job.size));
        let begun = Instant::now();
        match engine.score(&queries, &[]) {
            Ok(AtPosition { answer, position }) => {
                self.learn(ReadKind::Score, size, begun.elapsed());
                let model: Arc<str> = engine.manifest().model_version().into();
                let mut rest = &answer[..];
                for job in jobs {
                    let (own, others) = rest.split_at(pairs(&job.read.read).len());
                    rest = others;
                    let answered = Answer { body: AnswerBody::Scores(own.to_vec()), position, model: model.clone() };
                    let _ = job.read.answer.send(Ok(answered));
                }
            }
            Err(error) => self.score_bisecting(engine, jobs, error),
        }
    }

    /// One of the jobs is invalid. Halves the jobs until it is alone and refused, and answers the others.
    fn score_bisecting(&self, engine: &Engine, mut jobs: Vec<Job<Pending>>, error: RequestError) {
        if jobs.len() < 2 {
            return jobs.into_iter().for_each(|job| job.read.refuse(error.clone().into()));
        }
        let second = jobs.split_off(jobs.len() / 2);
        self.score(engine, jobs);
        self.score(engine, second);
    }

    fn answer_single(&self, worker: usize, engine: &Engine, job: Job<Pending>) {
        let begun = Instant::now();
        let body = match &job.read.read {
            ReadRequest::Score { queries, during } if job.kind.yields() => {
                let mut scores = Vec::with_capacity(queries.len());
                let position =
                    self.in_chunks(worker, &job, |pace| engine.score_in_chunks(queries, during, &mut scores, pace));
                position.map(|position| AtPosition { answer: AnswerBody::Scores(scores), position })
            }
            ReadRequest::Score { queries, during } => {
                engine.score(queries, during).map(|answered| answered.map(AnswerBody::Scores))
            }
            ReadRequest::Embedding { node, side, time } => {
                engine.embedding(node, *side, time.as_ref()).map(|answered| answered.map(AnswerBody::Embedding))
            }
            ReadRequest::Explain(query) => engine.explain(query).map(|answered| answered.map(AnswerBody::Explained)),
            ReadRequest::Rank(query) => self
                .in_chunks(worker, &job, |pace| engine.rank_in_chunks(query, pace))
                .map(|answered| answered.map(AnswerBody::Ranked)),
        };
        if body.is_ok() && !job.kind.yields() {
            self.learn(job.kind, job.size, begun.elapsed());
        }
        let answered = body.map(|answered| Answer {
            body: answered.answer,
            position: answered.position,
            model: engine.manifest().model_version().into(),
        });
        let _ = job.read.answer.send(answered.map_err(ReadError::from));
    }

    /// Computes a long job in chunks that take about the time of the settings. Between two chunks, shorter jobs run. The
    /// work ends when its deadline has passed or nobody waits for it any more.
    fn in_chunks<R>(
        &self,
        worker: usize,
        job: &Job<Pending>,
        work: impl FnOnce(Pace<'_>) -> Result<R, RequestError>,
    ) -> Result<R, RequestError> {
        let mut chunks = Chunks::new(self.state().queue.expected_chunk(job.kind), &self.spec);
        let answered = work(&mut |done| {
            let left = (job.size.items as f64 * (1.0 - done)).ceil() as usize;
            if let Some(took) = chunks.end(job.size.items - left) {
                self.state().queue.charge(&job.tenant, took);
            }
            self.run_preempting(worker, job, left);
            if self.now() >= job.deadline || job.read.answer.is_closed() {
                return Err(RequestError::Deadline { done: (100.0 * done) as u64 });
            }
            Ok(chunks.begin())
        });
        // What is left of a job that was stopped is not known.
        let whole = answered.is_ok();
        if let Some(took) = chunks.end(if whole { job.size.items } else { chunks.done }) {
            self.state().queue.charge(&job.tenant, took);
        }
        let size = if whole { job.size } else { Size::of(chunks.done) };
        if size.items > 0 {
            self.learn(job.kind, size, chunks.total);
        }
        answered
    }

    /// Answers the jobs that are due before the rest of a long job, of which `left` items remain.
    fn run_preempting(&self, worker: usize, long: &Job<Pending>, left: usize) {
        loop {
            let (mut state, now, mut late) = (self.state(), self.now(), Vec::new());
            state.queue.set_running(now, worker, long.kind, long.size, left);
            let ends = state.queue.ends(worker);
            let batch = state.queue.preempting_batch(now, long.deadline, ends, &long.tenant, &mut late);
            if let Some(batch) = &batch {
                state.queue.set_running(now, worker, batch.kind, batch.size, batch.size.items);
            }
            state.counts.dropped += late.len() as u64;
            state.counts.overtakings += u64::from(batch.is_some());
            drop(state);
            late.into_iter().for_each(|job| self.reject_late(job));
            match batch {
                Some(batch) => self.answer(worker, batch),
                None => return,
            }
        }
    }

    fn learn(&self, kind: ReadKind, size: Size, took: Duration) {
        let mut state = self.state();
        state.queue.learn(kind, size, took);
        state.counts.passes += 1;
        state.counts.items += size.items as u64;
        state.counts.busy_seconds += took.as_secs_f64();
    }
}

/// The chunks of a long job.
struct Chunks {
    /// Items of the next chunk.
    items: usize,
    most: usize,
    wanted: Duration,
    begun: Option<Instant>,
    /// Items so far, and the time that they took.
    done: usize,
    total: Duration,
}

impl Chunks {
    fn new(expected: usize, spec: &SchedulerSpec) -> Chunks {
        let wanted = Duration::from_micros(spec.chunk_us);
        let items = expected.clamp(1, spec.chunk);
        Chunks { items, most: spec.chunk, wanted, begun: None, done: 0, total: Duration::ZERO }
    }

    fn begin(&mut self) -> usize {
        self.begun = Some(Instant::now());
        self.items
    }

    /// Ends a chunk, after which `done` items are done in all. Returns its time, if one was begun.
    fn end(&mut self, done: usize) -> Option<Duration> {
        let took = self.begun.take()?.elapsed();
        let items = done.saturating_sub(self.done);
        self.total += took;
        self.done = done;
        // No more than twice as many as before: one chunk may have been fast by chance.
        let fitting = items as f64 * self.wanted.as_secs_f64() / took.as_secs_f64().max(1e-6);
        self.items = (fitting as usize).clamp(self.items / 2, 2 * self.items).clamp(1, self.most);
        Some(took)
    }
}

fn pairs(read: &ReadRequest) -> &[PairQuery] {
    match read {
        ReadRequest::Score { queries, .. } => queries,
        _ => &[],
    }
}
