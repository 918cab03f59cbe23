//! Reads: requests, options, answers and errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Number;
use tempograph_framework::Side;

use crate::engine::answer::explain::Explanation;
use crate::request::id::ExternalId;
use crate::request::{NewEvent, PairQuery, Position, RankQuery, Ranked, RequestError};

/// A query of a history.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadRequest {
    /// Logits of pairs; `during` are events that have not been observed, as in [`Engine::score`](crate::Engine::score).
    Score {
        /// The pairs.
        queries: Vec<PairQuery>,
        /// Events that only these pairs see.
        during: Vec<NewEvent>,
    },
    /// The best destinations of a source.
    Rank(RankQuery),
    /// The embedding of a node.
    Embedding {
        /// Its id.
        node: ExternalId,
        /// Its side; may be left out where ids are not by side.
        side: Option<Side>,
        /// The time; left out, just after the newest event.
        time: Option<Number>,
    },
    /// The score of a pair with the neighbours that it depends on.
    Explain(PairQuery),
}

/// Options of a read. The default has no requirements.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// When the answer is of no use any more; left out, the server's default from now.
    pub deadline: Option<Instant>,
    /// The tenant: its reads share its part of the server. Empty for all clients without a name.
    pub tenant: Arc<str>,
    /// The answer has seen at least this many events of the log (read your writes).
    pub min_seq: Option<u64>,
    /// The answer has seen every event that was submitted longer ago than this.
    pub max_staleness: Option<Duration>,
}

/// An answer and its position.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result.
    pub body: AnswerBody,
    /// The position of the history that answered.
    pub position: Position,
    /// The version of the weights that answered, as in [`Manifest::model_version`](crate::Manifest::model_version).
    pub model: Arc<str>,
}

/// The result of a read.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerBody {
    /// A logit for each pair, in their order.
    Scores(Vec<f32>),
    /// Best first.
    Ranked(Vec<Ranked>),
    /// `[O]`.
    Embedding(Vec<f32>),
    /// A score with the neighbours that it depends on.
    Explained(Explanation),
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The read itself is invalid.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The queue is full; the same read may be admitted later.
    #[error("{waiting} reads of this tenant or {most} of all wait already; try again in {} ms", retry_after.as_millis())]
    Full {
        /// Reads of the tenant that wait.
        waiting: usize,
        /// Most reads that wait, of all tenants.
        most: usize,
        /// When there should be room again.
        retry_after: Duration,
    },
    /// The answer would come after its deadline. Nothing was computed.
    #[error("an answer takes {:.1} ms from here and is wanted in {:.1} ms; try again in {} ms", millis(*needs), millis(*has), retry_after.as_millis())]
    TooLate {
        /// Predicted time until the answer, including the wait.
        needs: Duration,
        /// Time until the deadline.
        has: Duration,
        /// When the same options should suffice.
        retry_after: Duration,
    },
    /// The required events were not applied by the deadline.
    #[error("{wanted}, and the server stands at log_seq {at}")]
    Stale {
        /// The required consistency.
        wanted: String,
        /// The server's position.
        at: u64,
    },
    /// The server is stopping, or not ready yet.
    #[error("the server is {0}")]
    Unavailable(&'static str),
    /// A panic in the computation, which is a bug.
    #[error("the answer broke off: this is a bug, and the server's log says where")]
    Broken,
}

fn millis(duration: Duration) -> f64 {
    1e3 * duration.as_secs_f64()
}
