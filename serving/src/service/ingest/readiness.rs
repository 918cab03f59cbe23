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
        /// All events of the log.
        of: u64,
    },
    /// All durable events are applied, and events are accepted.
    Ready,
    /// The service applies what another server appends to the log; it accepts no events.
    Following,
    /// No more events are accepted.
    Draining,
    /// An error that only a restart repairs.
    Broken {
        /// The reason.
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

/// The readiness, shared by all threads.
#[derive(Debug)]
pub(crate) struct SharedReadiness(RwLock<Readiness>);

impl SharedReadiness {
    pub fn new(readiness: Readiness) -> SharedReadiness {
        SharedReadiness(RwLock::new(readiness))
    }

    pub fn get(&self) -> Readiness {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the readiness; a broken service stays broken.
    pub fn set(&self, readiness: Readiness) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*current, Readiness::Broken { .. }) {
            if let Readiness::Broken { why } = &readiness {
                tracing::error!("no events are taken any more: {why}");
            }
            *current = readiness;
        }
    }

    /// Sets the readiness if the service is recovering or following.
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
    fn every_state_of_a_service_has_a_text() {
        for (readiness, submitted_text) in [
            (Readiness::Recovering { applied: 3, of: 7 }, json!({ "status": "recovering", "applied": 3, "of": 7 })),
            (Readiness::Ready, json!({ "status": "ready" })),
            (Readiness::Following, json!({ "status": "following" })),
            (Readiness::Draining, json!({ "status": "draining" })),
            (Readiness::Broken { why: "it is".into() }, json!({ "status": "broken", "why": "it is" })),
        ] {
            assert_eq!(serde_json::to_value(&readiness).unwrap(), submitted_text);
        }
    }
}
