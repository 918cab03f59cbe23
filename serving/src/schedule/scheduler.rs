//! Where reads are handed in.

use std::sync::Arc;

use super::read::{Answer, Body, Read, Refusal, Terms};
use super::spec::SchedulerSpec;
use crate::Engine;

/// Answers reads by their deadlines.
#[derive(Debug)]
pub struct Scheduler {
    engine: Arc<Engine>,
}

impl Scheduler {
    /// A scheduler of reads of `engine`.
    pub fn new(engine: Arc<Engine>, _spec: &SchedulerSpec) -> Scheduler {
        Scheduler { engine }
    }

    /// Answers a read, or says why it does not. Has to be awaited inside a tokio runtime.
    ///
    /// # Errors
    /// [`Refusal`]; nothing but a refusal's message has been computed then.
    pub async fn submit(&self, read: Read, _terms: Terms) -> Result<Answer, Refusal> {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || answer(&engine, &read)).await.map_err(|_| Refusal::Broken)?
    }
}

fn answer(engine: &Engine, read: &Read) -> Result<Answer, Refusal> {
    let body = match read {
        Read::Score { queries, during } => Body::Scores(engine.score(queries, during)?),
        Read::Rank(query) => Body::Ranked(engine.rank(query)?),
        Read::Embedding { node, side, time } => Body::Embedding(engine.embedding(*node, *side, time.as_ref())?),
    };
    Ok(Answer { body, position: engine.position(), model: engine.manifest().model_version().into() })
}
