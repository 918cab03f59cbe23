//! Settings of an engine: what it caches and precomputes.

use serde::{Deserialize, Serialize};

/// Settings of an engine. Answers and state are the same to the last bit with all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSpec {
    /// What is cached between answers: `full`, `affected` or `cached` (`affected`).
    pub strategy: Strategy,
    /// With `cached`: hops that are embedded when events are applied. 0 embeds nothing ahead, 1 the two ends of each
    /// event, 2 their neighbours too; at most as many as the model has layers (1).
    pub precompute: usize,
    /// Most cached embeddings; rounded up to a power of two (65536).
    pub kept: usize,
    /// Most events that are computed together, where none reads a row that another writes (64).
    pub wave: usize,
    /// Nodes that no event has named for longer than this, in the unit of the times, are
    /// [expired](crate::Engine::expire) from time to time. Left out, none are.
    pub ttl: Option<f64>,
}

/// What is computed again for each read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Everything, from memory and mail.
    Full,
    /// Only what has changed. Mail is read into memory once. An embedding is computed again if an event has reached it,
    /// or if it is queried at a time that differs for the model.
    #[default]
    Affected,
    /// As `affected`, and embeddings are precomputed when events are applied.
    Cached,
}

impl Default for EngineSpec {
    fn default() -> EngineSpec {
        EngineSpec { strategy: Strategy::default(), precompute: 1, kept: 1 << 16, wave: 64, ttl: None }
    }
}

impl EngineSpec {
    /// Checks the settings. An error names the key and its value.
    ///
    /// # Errors
    /// A sentence for: a wave or a number of cached embeddings of 0, more than 2 precomputed hops, a time to live that
    /// is not positive.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("wave", self.wave), ("kept", self.kept)] {
            if value == 0 {
                return Err(format!("engine.{key} is 0; it must be at least 1"));
            }
        }
        if self.precompute > 2 {
            return Err(format!("engine.precompute = {}; it is 0, 1 or 2", self.precompute));
        }
        if self.ttl.is_some_and(|ttl| ttl.is_nan() || ttl <= 0.0) {
            return Err(format!("engine.ttl = {:?}; it must be positive", self.ttl));
        }
        Ok(())
    }
}
