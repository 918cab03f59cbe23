//! The loop of a thread that answers reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::Engine;
use crate::request::{AtPosition, PairQuery, RankQuery, RequestError};
use crate::schedule::policy::cost::Size;
use crate::schedule::policy::job::{Batch, Job, ReadKind, WorkerAction};
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
                    state.queue.set_running(now, worker, batch.kind, batch.size, batch.size.items, batch.deadline);
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
            ReadRequest::Score { queries, during } => {
                engine.score(queries, during).map(|answered| answered.map(AnswerBody::Scores))
            }
            ReadRequest::Embedding { node, side, time } => {
                engine.embedding(node, *side, time.as_ref()).map(|answered| answered.map(AnswerBody::Embedding))
            }
            ReadRequest::Explain(query) => engine.explain(query).map(|answered| answered.map(AnswerBody::Explained)),
            ReadRequest::Rank(query) => {
                self.rank(worker, engine, query, &job).map(|answered| answered.map(AnswerBody::Ranked))
            }
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

    /// Ranks in chunks. Between two chunks, jobs with tighter deadlines run.
    fn rank(
        &self,
        worker: usize,
        engine: &Engine,
        query: &RankQuery,
        job: &Job<Pending>,
    ) -> Result<AtPosition<Vec<crate::Ranked>>, RequestError> {
        let (mut begun, mut took) = (Instant::now(), Duration::ZERO);
        let answered = engine.rank_in_chunks(query, self.spec.chunk, &mut |done| {
            took += self.chunk_took(job, begun.elapsed());
            let left = (job.size.items as f64 * (1.0 - done)).ceil() as usize;
            self.run_preempting(worker, job, left);
            begun = Instant::now();
        })?;
        took += self.chunk_took(job, begun.elapsed());
        self.learn(job.kind, job.size, took);
        Ok(answered)
    }

    fn chunk_took(&self, job: &Job<Pending>, took: Duration) -> Duration {
        self.state().queue.charge(&job.tenant, took);
        took
    }

    /// Answers the jobs that are due before the rest of a long job, of which `left` items remain.
    fn run_preempting(&self, worker: usize, long: &Job<Pending>, left: usize) {
        loop {
            let (mut state, now, mut late) = (self.state(), self.now(), Vec::new());
            let batch = state.queue.preempting_batch(now, long.deadline, &long.tenant, &mut late);
            match &batch {
                Some(batch) => {
                    state.queue.set_running(now, worker, batch.kind, batch.size, batch.size.items, batch.deadline)
                }
                None => state.queue.set_running(now, worker, long.kind, long.size, left, long.deadline),
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

fn pairs(read: &ReadRequest) -> &[PairQuery] {
    match read {
        ReadRequest::Score { queries, .. } => queries,
        _ => &[],
    }
}
