//! What a thread that answers does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::Engine;
use crate::request::{Answered, PairQuery, RankQuery, RequestError};
use crate::schedule::policy::cost::Size;
use crate::schedule::policy::job::{Batch, Job, Kind, Turn};
use crate::schedule::read::{Answer, Body, Read, Refusal};
use crate::schedule::scheduler::{Pending, Shared};

impl Shared {
    /// Answers until the scheduler ends.
    pub fn work(&self, worker: usize) {
        while let Some(batch) = self.next_batch(worker) {
            // A panic is a bug that those asking are told of; who asks next is answered all the same.
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
                late.drain(..).for_each(|job| self.give_up(job));
                state = self.state();
                if !matches!(turn, Turn::Run(_)) {
                    continue;
                }
            }
            state = match turn {
                Turn::Run(batch) => {
                    state.queue.begins(now, worker, batch.kind, batch.size, batch.size.items, batch.deadline);
                    return Some(batch);
                }
                Turn::Wait(until) => {
                    let wait = until.saturating_sub(now);
                    self.came.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                Turn::Rest => {
                    state.queue.rests(worker);
                    self.came.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
    }

    /// Tells that a deadline cannot be kept after all.
    fn give_up(&self, job: Job<Pending>) {
        let (needs, has) = (self.now().saturating_sub(job.arrived), job.deadline.saturating_sub(job.arrived));
        job.read.refuse(Refusal::TooLate { needs, has, retry_after: Duration::from_millis(1) });
    }

    fn answer(&self, worker: usize, mut batch: Batch<Pending>) {
        batch.jobs.retain(|job| !job.read.answer.is_closed());
        let engine = self.service.engine();
        match batch.kind {
            Kind::Score => self.score(&engine, batch.jobs),
            _ => batch.jobs.into_iter().for_each(|job| self.answer_alone(worker, &engine, job)),
        }
    }

    /// One pass for the pairs of all jobs.
    fn score(&self, engine: &Engine, jobs: Vec<Job<Pending>>) {
        let queries: Vec<PairQuery> = jobs.iter().flat_map(|job| pairs(&job.read.read)).cloned().collect();
        let size = jobs.iter().fold(Size::default(), |sum, job| sum.with(job.size));
        let begun = Instant::now();
        match engine.score(&queries, &[]) {
            Ok(Answered { answer, position }) => {
                self.learn(Kind::Score, size, begun.elapsed());
                let model: Arc<str> = engine.manifest().model_version().into();
                let mut rest = &answer[..];
                for job in jobs {
                    let (own, others) = rest.split_at(pairs(&job.read.read).len());
                    rest = others;
                    let told = Answer { body: Body::Scores(own.to_vec()), position, model: model.clone() };
                    let _ = job.read.answer.send(Ok(told));
                }
            }
            Err(error) => self.score_apart(engine, jobs, error),
        }
    }

    /// Halves jobs of which one will not do until it is alone: it is told so, and the others are answered.
    fn score_apart(&self, engine: &Engine, mut jobs: Vec<Job<Pending>>, error: RequestError) {
        if jobs.len() < 2 {
            return jobs.into_iter().for_each(|job| job.read.refuse(error.clone().into()));
        }
        let second = jobs.split_off(jobs.len() / 2);
        self.score(engine, jobs);
        self.score(engine, second);
    }

    fn answer_alone(&self, worker: usize, engine: &Engine, job: Job<Pending>) {
        let begun = Instant::now();
        let body = match &job.read.read {
            Read::Score { queries, during } => engine.score(queries, during).map(|told| told.map(Body::Scores)),
            Read::Embedding { node, side, time } => {
                engine.embedding(*node, *side, time.as_ref()).map(|told| told.map(Body::Embedding))
            }
            Read::Explain(query) => engine.explain(query).map(|told| told.map(Body::Explained)),
            Read::Rank(query) => self.rank(worker, engine, query, &job).map(|told| told.map(Body::Ranked)),
        };
        if body.is_ok() && !job.kind.yields() {
            self.learn(job.kind, job.size, begun.elapsed());
        }
        let told = body.map(|told| Answer {
            body: told.answer,
            position: told.position,
            model: engine.manifest().model_version().into(),
        });
        let _ = job.read.answer.send(told.map_err(Refusal::from));
    }

    /// Ranks in chunks; between two of them tighter deadlines are kept.
    fn rank(
        &self,
        worker: usize,
        engine: &Engine,
        query: &RankQuery,
        job: &Job<Pending>,
    ) -> Result<Answered<Vec<crate::Ranked>>, RequestError> {
        let (mut begun, mut took) = (Instant::now(), Duration::ZERO);
        let answered = engine.rank_in_chunks(query, self.spec.chunk, &mut |done| {
            took += self.chunk_took(job, begun.elapsed());
            let left = (job.size.items as f64 * (1.0 - done)).ceil() as usize;
            self.let_overtake(worker, job, left);
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

    /// Answers what is due before a long job, of which so many items are left.
    fn let_overtake(&self, worker: usize, long: &Job<Pending>, left: usize) {
        loop {
            let (mut state, now, mut late) = (self.state(), self.now(), Vec::new());
            let batch = state.queue.overtaking(now, long.deadline, &long.tenant, &mut late);
            match &batch {
                Some(batch) => {
                    state.queue.begins(now, worker, batch.kind, batch.size, batch.size.items, batch.deadline)
                }
                None => state.queue.begins(now, worker, long.kind, long.size, left, long.deadline),
            }
            state.counts.dropped += late.len() as u64;
            state.counts.overtakings += u64::from(batch.is_some());
            drop(state);
            late.into_iter().for_each(|job| self.give_up(job));
            match batch {
                Some(batch) => self.answer(worker, batch),
                None => return,
            }
        }
    }

    fn learn(&self, kind: Kind, size: Size, took: Duration) {
        let mut state = self.state();
        state.queue.learn(kind, size, took);
        state.counts.passes += 1;
        state.counts.items += size.items as u64;
        state.counts.busy_seconds += took.as_secs_f64();
    }
}

fn pairs(read: &Read) -> &[PairQuery] {
    match read {
        Read::Score { queries, .. } => queries,
        _ => &[],
    }
}
