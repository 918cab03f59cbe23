//! Waiting reads, and batches of them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::schedule::policy::cost::{CostModel, Size};

/// The kind of pass that a read needs. Each kind has its own cost model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadKind {
    /// Scores of pairs, computed together with those of other reads.
    Score,
    /// Scores of pairs with events of their own in `during`, computed alone.
    ScoreShown,
    /// Scores of more pairs than a chunk has, in chunks.
    ScoreMany,
    /// An embedding.
    Embedding,
    /// The neighbours and attention weights of a pair's score.
    Explain,
    /// Candidates of one source, in chunks.
    Rank,
    /// All destinations, in chunks: their embeddings are more often cached.
    TopK,
}

impl ReadKind {
    pub(crate) const COUNT: usize = 7;
    pub(crate) const ALL: [ReadKind; ReadKind::COUNT] = [
        ReadKind::Score,
        ReadKind::ScoreShown,
        ReadKind::ScoreMany,
        ReadKind::Embedding,
        ReadKind::Explain,
        ReadKind::Rank,
        ReadKind::TopK,
    ];

    /// Whether reads of this kind share a pass.
    pub(crate) fn shares(self) -> bool {
        self == ReadKind::Score
    }

    /// Whether shorter jobs may run between its chunks.
    pub(crate) fn yields(self) -> bool {
        matches!(self, ReadKind::ScoreMany | ReadKind::Rank | ReadKind::TopK)
    }

    /// The prior of the cost model: about the times of a small model on one core.
    pub(crate) fn cost_model(self) -> CostModel {
        match self {
            ReadKind::TopK => CostModel::new(50e-6, 1e-6),
            _ => CostModel::new(50e-6, 20e-6),
        }
    }
}

/// A waiting read. Times are relative to the queue's start.
#[derive(Clone, Debug)]
pub(crate) struct Job<T> {
    pub read: T,
    pub kind: ReadKind,
    pub size: Size,
    pub tenant: Arc<str>,
    pub arrived: Duration,
    pub deadline: Duration,
}

/// A job's order in its tenant's queue: by deadline or arrival; of equals, the first to arrive.
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
    /// The earliest deadline in the batch.
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

/// The next action of an idle worker.
#[derive(Debug)]
pub(crate) enum WorkerAction<T> {
    /// Answer this batch.
    Run(Batch<T>),
    /// Wait for more reads to share the pass, until this time or the next arrival.
    Wait(Duration),
    /// Wait until a read arrives.
    Idle,
}
