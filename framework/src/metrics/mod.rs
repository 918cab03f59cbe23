//! Metrics of link prediction: average precision and ROC AUC over pairs, MRR and Hits@k over ranks.
//!
//! The first two agree with scikit-learn, the last two with the evaluator of the Temporal Graph Benchmark;
//! `experiments/peers/check_metrics.py` checks both.
mod curve;
mod link;
mod rank;

use crate::EventId;

pub use curve::{average_precision, roc_auc};
pub use link::{LinkAccumulator, LinkMetrics, ScoredBatch};
pub use rank::{TiePolicy, hits_at, mrr, rank};

/// Why a metric has no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// Scores and labels do not pair up.
    #[error("{scores} scores for {labels} labels")]
    Lengths {
        /// Number of scores.
        scores: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A score is NaN or infinite.
    #[error("score {index} is {value}")]
    Score {
        /// Position of the score in the slice.
        index: usize,
        /// The score.
        value: f32,
    },
    /// There are no positives or no negatives, so they cannot be compared.
    #[error("{positives} positives and {negatives} negatives: at least one of each is needed")]
    OneSided {
        /// Number of positives.
        positives: usize,
        /// Number of negatives.
        negatives: usize,
    },
    /// The positive score of an event is NaN or infinite.
    #[error("event {event}: the positive's score is {value}")]
    Positive {
        /// The event.
        event: EventId,
        /// The score.
        value: f32,
    },
    /// A negative score of an event is NaN or infinite.
    #[error("event {event}: the score of negative {index} is {value}")]
    Negative {
        /// The event.
        event: EventId,
        /// Which of the event's negatives, from zero.
        index: usize,
        /// The score.
        value: f32,
    },
    /// An event has no negative to be ranked against.
    #[error("event {event} has no negatives")]
    NoNegatives {
        /// The event.
        event: EventId,
    },
    /// The columns of a batch do not fit each other.
    #[error(
        "{events} events, {positives} positive scores, {negatives} negative scores, {counted} of them accounted for"
    )]
    Shape {
        /// Number of events.
        events: usize,
        /// Number of positive scores.
        positives: usize,
        /// Number of negative scores.
        negatives: usize,
        /// Number of negative scores that the layout covers.
        counted: usize,
    },
}

impl MetricError {
    /// Whether a score is NaN or infinite.
    pub fn is_not_finite(&self) -> bool {
        matches!(self, MetricError::Score { .. } | MetricError::Positive { .. } | MetricError::Negative { .. })
    }
}
