//! What is asked of the scheduler, on which terms, and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Number;
use tempograph_framework::Side;

use crate::engine::answer::explain::Explanation;
use crate::request::{NewEvent, PairQuery, Position, RankQuery, Ranked, RequestError};

/// A question to a history.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadRequest {
    /// Logits of pairs; `during` are events that have not been observed, as [`Engine::score`](crate::Engine::score) takes them.
    Score {
        /// The pairs.
        queries: Vec<PairQuery>,
        /// Events shown to these pairs alone.
        during: Vec<NewEvent>,
    },
    /// The best destinations of a source.
    Rank(RankQuery),
    /// The embedding of a node.
    Embedding {
        /// Its id.
        node: u64,
        /// Its side; may be left out where ids are not by side.
        side: Option<Side>,
        /// As of when; left out, just after the newest event.
        time: Option<Number>,
    },
    /// What the score of a pair rests on.
    Explain(PairQuery),
}

/// On which terms a read is asked. The default asks for nothing in particular.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// When the answer is of no use any more; left out, the server's default from now.
    pub deadline: Option<Instant>,
    /// Who asks: reads of one tenant share its part of the server. Empty for all who do not say.
    pub tenant: Arc<str>,
    /// The answer has seen at least this many events of the log (read your writes).
    pub min_seq: Option<u64>,
    /// The answer has seen every event that was taken longer ago than this.
    pub max_staleness: Option<Duration>,
}

/// An answer, and what it has seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What was asked for.
    pub body: AnswerBody,
    /// What it has seen.
    pub position: Position,
    /// The weights it was made by, as [`Manifest::model_version`](crate::Manifest::model_version) names them.
    pub model: Arc<str>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerBody {
    /// A logit for each pair, in their order.
    Scores(Vec<f32>),
    /// Best first.
    Ranked(Vec<Ranked>),
    /// `[O]`.
    Embedding(Vec<f32>),
    /// A score with the neighbours it rests on.
    Explained(Explanation),
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The read itself will not do.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// As many reads wait as may; the same read will do later.
    #[error("{waiting} reads of this tenant or {most} of all wait already; try again in {} ms", retry_after.as_millis())]
    Full {
        /// Reads of the tenant that wait.
        waiting: usize,
        /// Most reads that wait, of all tenants.
        most: usize,
        /// When there should be room.
        retry_after: Duration,
    },
    /// The answer would come after its deadline; nothing has been computed.
    #[error("an answer takes {:.1} ms from here and is wanted in {:.1} ms; try again in {} ms", millis(*needs), millis(*has), retry_after.as_millis())]
    TooLate {
        /// How long an answer would take, waiting included.
        needs: Duration,
        /// How long there is.
        has: Duration,
        /// When the same terms should do.
        retry_after: Duration,
    },
    /// The events it has to have seen have not been applied by its deadline.
    #[error("{wanted}, and the server stands at log_seq {at}")]
    Stale {
        /// What was asked for.
        wanted: String,
        /// Where the server stands.
        at: u64,
    },
    /// The server is stopping, or not ready yet.
    #[error("the server is {0}")]
    Unavailable(&'static str),
    /// A bug: the answer broke off.
    #[error("the answer broke off: this is a bug, and the server's log says where")]
    Broken,
}

fn millis(duration: Duration) -> f64 {
    1e3 * duration.as_secs_f64()
}
