//! Why a run could not go on.

use std::ops::Range;
use std::path::PathBuf;

use tempograph_framework::{EventId, MetricError, NegativesError, ObserveError, StoreError};

use crate::divergence::Divergence;
use crate::{ExchangeError, Plan};

/// Why training or evaluation could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The training diverged: something is not finite, or the loss grew beyond use. No file was written after it, so the
    /// checkpoint and the best weights are those from before.
    #[error(
        "the training diverged in step {step} (batch from event {event}): {what}; the largest norm of all gradients in a \
         step was {largest_gradient:.3e}. Try a smaller train.lr or a train.clip, or look for extreme features in that batch"
    )]
    Diverged {
        /// Steps taken before.
        step: u64,
        /// First event of the batch.
        event: EventId,
        /// What was not finite, or too large.
        what: Divergence,
        /// The largest finite norm of all gradients together, of the steps of this session; 0 if there was none.
        largest_gradient: f64,
    },
    /// A checkpoint of a run on other data.
    #[error("{}: the checkpoint is of another run, or of other data: {fact}", path.display())]
    OtherData {
        /// The checkpoint.
        path: PathBuf,
        /// What differs, with both checksums.
        fact: String,
    },
    /// A plan that does not fit the data or the number of processes.
    #[error("{0}")]
    Plan(String),
    /// A checkpoint of a run under another plan.
    #[error("{}: the checkpoint is of a run under the plan {found}, but the spec says {expected}", path.display())]
    OtherPlan {
        /// The checkpoint.
        path: PathBuf,
        /// The plan it was trained under.
        found: Plan,
        /// The plan of the spec.
        expected: Plan,
    },
    /// An observer of the run could not begin or go on.
    #[error("{0}")]
    Observer(String),
    /// Another process of the training is gone, or its weights differ.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// As `Exchange`, where there is a checkpoint of the run.
    #[error("{0}; the checkpoint goes on with `--resume`")]
    Resumable(ExchangeError),
    /// The split has no event to evaluate.
    #[error("the split of events {}..{} has nothing to evaluate", range.start, range.end)]
    EmptySplit {
        /// The events.
        range: Range<usize>,
    },
    /// An event could not be observed.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A negative could not be drawn.
    #[error(transparent)]
    Negatives(#[from] NegativesError),
    /// A score could not be counted.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint's notes could not be written or read.
    #[error("{}: its notes cannot be read or written: {error}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
}

impl TrainError {
    /// Says that `--resume` goes on, where another process is gone and the run has a checkpoint.
    pub(crate) fn resumable(self, has_checkpoint: bool) -> TrainError {
        match self {
            TrainError::Exchange(error) if has_checkpoint => TrainError::Resumable(error),
            other => other,
        }
    }
}
