//! Whether a service answers.

use std::fmt;
use std::sync::{PoisonError, RwLock};

use serde::Serialize;

/// Whether a service answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Readiness {
    /// The log is being replayed; answers would be old.
    Recovering {
        /// Events replayed or in the snapshot.
        applied: u64,
        /// Events there are.
        of: u64,
    },
    /// All that is durable is applied, and events are taken.
    Ready,
    /// What another server writes to the log is applied as it comes; no events are taken.
    Following,
    /// No events are taken any more.
    Draining,
    /// Something happened that only a restart mends.
    Broken {
        /// What it was.
        why: String,
    },
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Readiness::Recovering { applied, of } => write!(f, "recovering: {applied} of {of} events are applied"),
            Readiness::Ready => f.write_str("ready"),
            Readiness::Following => f.write_str("following a log that another server writes"),
            Readiness::Draining => f.write_str("draining"),
            Readiness::Broken { why } => write!(f, "broken: {why}"),
        }
    }
}

/// A readiness many look at.
#[derive(Debug)]
pub(crate) struct SharedReadiness(RwLock<Readiness>);

impl SharedReadiness {
    pub fn new(readiness: Readiness) -> SharedReadiness {
        SharedReadiness(RwLock::new(readiness))
    }

    pub fn get(&self) -> Readiness {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows another; what is broken stays so.
    pub fn set(&self, readiness: Readiness) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*current, Readiness::Broken { .. }) {
            if let Readiness::Broken { why } = &readiness {
                tracing::error!("no events are taken any more: {why}");
            }
            *current = readiness;
        }
    }

    /// Shows another if it is recovering or following.
    pub fn advance(&self, readiness: Readiness) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*current, Readiness::Recovering { .. } | Readiness::Following) {
            *current = readiness;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_a_service_is_doing_can_be_told() {
        for (readiness, told) in [
            (Readiness::Recovering { applied: 3, of: 7 }, json!({ "status": "recovering", "applied": 3, "of": 7 })),
            (Readiness::Ready, json!({ "status": "ready" })),
            (Readiness::Following, json!({ "status": "following" })),
            (Readiness::Draining, json!({ "status": "draining" })),
            (Readiness::Broken { why: "it is".into() }, json!({ "status": "broken", "why": "it is" })),
        ] {
            assert_eq!(serde_json::to_value(&readiness).unwrap(), told);
        }
    }
}
