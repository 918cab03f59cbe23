//! What a server keeps so that it need not compute it again.

use serde::{Deserialize, Serialize};

/// How an engine works. Whatever is chosen, answers and state are the same to the last bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSpec {
    /// What is kept from one answer to the next: `full`, `affected` or `cached` (`affected`).
    pub strategy: Strategy,
    /// With `cached`: hops computed as events are told. 0 leaves embeddings to whoever asks, 1 embeds the two ends of each event, 2 their
    /// neighbours too; no more than the model has layers (1).
    pub precompute: usize,
    /// Most embeddings kept; rounded up to a power of two (65536).
    pub kept: usize,
    /// Most events that are computed together where none reads what another writes (64).
    pub wave: usize,
    /// Nodes that no event has named for longer than this, in the unit of the times, are [forgotten](crate::Engine::expire) now and then;
    /// left out, never.
    pub ttl: Option<f64>,
}

/// What is computed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Everything that is asked, from memory and mail.
    Full,
    /// What has changed: mail is read into memory once, when it comes, and an embedding is computed again if an event reached it, or if it
    /// is asked for at a time that is not the same to the model.
    #[default]
    Affected,
    /// As `affected`, and part of it is computed ahead as events are told.
    Cached,
}

impl Default for EngineSpec {
    fn default() -> EngineSpec {
        EngineSpec { strategy: Strategy::default(), precompute: 1, kept: 1 << 16, wave: 64, ttl: None }
    }
}

impl EngineSpec {
    /// Says what will not do, naming the key and its value.
    ///
    /// # Errors
    /// A sentence for: a wave or a number of kept embeddings of 0, more hops ahead than 2, a time to live that is not positive.
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
