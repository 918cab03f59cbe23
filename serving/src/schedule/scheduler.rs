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
    let (body, position) = match read {
        Read::Score { queries, during } => {
            let answered = engine.score(queries, during)?;
            (Body::Scores(answered.answer), answered.position)
        }
        Read::Rank(query) => {
            let answered = engine.rank(query)?;
            (Body::Ranked(answered.answer), answered.position)
        }
        Read::Embedding { node, side, time } => {
            let answered = engine.embedding(*node, *side, time.as_ref())?;
            (Body::Embedding(answered.answer), answered.position)
        }
    };
    Ok(Answer { body, position, model: engine.manifest().model_version().into() })
}
