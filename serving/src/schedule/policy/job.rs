//! A read that waits, and what is done with several.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::schedule::policy::cost::{CostModel, Size};

/// What sort of pass a read takes. Times are learned for each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadKind {
    /// Scores of pairs, answered with those of other reads.
    Score,
    /// Scores in sight of events of their own, answered alone.
    ScoreShown,
    /// An embedding.
    Embedding,
    /// Why a pair scores as it does.
    Explain,
    /// Candidates of one source, in chunks.
    Rank,
    /// All destinations, in chunks: their embeddings are more often kept.
    TopK,
}

impl ReadKind {
    pub(crate) const COUNT: usize = 6;
    pub(crate) const ALL: [ReadKind; ReadKind::COUNT] =
        [ReadKind::Score, ReadKind::ScoreShown, ReadKind::Embedding, ReadKind::Explain, ReadKind::Rank, ReadKind::TopK];

    /// Whether reads of this kind share a pass.
    pub(crate) fn shares(self) -> bool {
        self == ReadKind::Score
    }

    /// Whether tighter deadlines may come between its chunks.
    pub(crate) fn yields(self) -> bool {
        matches!(self, ReadKind::Rank | ReadKind::TopK)
    }

    /// What its times are taken for before any is known: about those of a small model on one core.
    pub(crate) fn cost_model(self) -> CostModel {
        match self {
            ReadKind::TopK => CostModel::new(50e-6, 1e-6),
            _ => CostModel::new(50e-6, 20e-6),
        }
    }
}

/// A read that is asked to be answered. Times are counted from the queue's own beginning.
#[derive(Clone, Debug)]
pub(crate) struct Job<T> {
    pub read: T,
    pub kind: ReadKind,
    pub size: Size,
    pub tenant: Arc<str>,
    pub arrived: Duration,
    pub deadline: Duration,
}

/// A job's place in its tenant's line: by deadline or arrival, and of equals who came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub order: Duration,
    pub number: u64,
}

/// Jobs of one kind that are answered in one pass.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub kind: ReadKind,
    pub jobs: Vec<Job<T>>,
    pub size: Size,
    /// The tightest deadline in it.
    pub deadline: Duration,
}

impl<T> Batch<T> {
    pub fn of(job: Job<T>) -> Batch<T> {
        Batch { kind: job.kind, size: job.size, deadline: job.deadline, jobs: vec![job] }
    }

    pub fn push(&mut self, job: Job<T>) {
        self.size = self.size.with(job.size);
        self.deadline = self.deadline.min(job.deadline);
        self.jobs.push(job);
    }
}

/// What a worker that has nothing to do does next.
#[derive(Debug)]
pub(crate) enum WorkerAction<T> {
    /// Answers these.
    Run(Batch<T>),
    /// Waits for company until then, or until a read comes.
    Wait(Duration),
    /// Waits until a read comes.
    Idle,
}
