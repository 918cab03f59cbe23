//! The vocabulary and the contracts of temporal graph networks with memory.
mod draw;
mod ids;
mod inductive;
mod metrics;
mod negatives;

pub use draw::{Draw, Purpose, PurposeDraw, RandomNumbers};
pub use ids::{EventId, NodeId, Timestamp};
pub use inductive::{HeldOut, NewNodes, hold_out_nodes};
pub use metrics::{LinkAccumulator, LinkMetrics, MetricError, Scored, Ties, average_precision, hits_at, mrr, rank, roc_auc};
pub use negatives::{BatchNegatives, Candidates, FixedNegatives, NegativeRule, NegativeSampler, NegativeSet, NegativesError, TgbNegatives};
