//! Walk features: the features of the temporal walks of both ends of a pair, which a link decoder reads.
//!
//! TPNet: "Improving Temporal Link Prediction via Temporal Walk Matrix Projection", Lu et al., NeurIPS 2024
//! (arXiv:2410.04013), section 4.2. A history keeps the projected rows `P^0 .. P^L` of every node ([`WalkRule`]).
//!
//! ```text
//! F(u, v)  = [P^0_u .. P^L_u, P^0_v .. P^L_v]        2 L + 2 rows of d numbers, at the query's time
//! walks(u, v) = log(1 + relu(F F'))                  inner products of each two rows
//! ```
//!
//! - each product is read once, `(2 L + 2) (2 L + 3) / 2` numbers; the authors' matrix contains those of two different
//!   rows twice;
//! - the decoder maps them like facts about pairs, by two maps with a ReLU between; if it reads both, the same maps
//!   read both;
//! - `d` is a setting; the authors use `10 log(2 E)` for a log of `E` events.

use serde::{Deserialize, Serialize};
use tempograph_framework::WalkRule;

use crate::settings::DatasetStats;

/// The default decay: the share of its weight that a step of a walk loses in the mean time between two events of a
/// source. It is about the authors' 1e-7 a second if sources act daily.
const DECAY_PER_MEAN_GAP: f64 = 0.01;

/// Settings of walk features. A missing key has the default in parentheses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WalkSpec {
    /// Events `L` of the longest walks (3).
    pub layers: usize,
    /// Columns `d` of a row (100).
    pub width: usize,
    /// `lambda`: a walk's weight falls by `exp(-decay)` for each tick of age of each of its events. If missing, 0.01
    /// divided by the mean time between a source's events in the training split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// Seed of the random projection (0).
    pub seed: u64,
}

impl Default for WalkSpec {
    fn default() -> WalkSpec {
        WalkSpec { layers: 3, width: 100, decay: None, seed: 0 }
    }
}

impl WalkSpec {
    /// Checks the settings. The error names the key and its value.
    ///
    /// # Errors
    /// A sentence for walks of no events, rows of no columns, or a decay that is negative or not a number.
    pub fn check(&self) -> Result<(), String> {
        let zero = [("layers", self.layers), ("width", self.width)].into_iter().find(|(_, value)| *value == 0);
        if let Some((key, _)) = zero {
            return Err(format!("model.walks.{key} is 0; it must be at least 1"));
        }
        match self.decay.filter(|decay| !(decay.is_finite() && *decay >= 0.0)) {
            Some(decay) => Err(format!("model.walks.decay = {decay}; it must be 0 or positive")),
            None => Ok(()),
        }
    }

    /// Fills in missing settings that depend on the data.
    pub fn complete(&mut self, facts: &DatasetStats) {
        self.decay.get_or_insert(DECAY_PER_MEAN_GAP / facts.time_scale);
    }

    /// The rule by which a history keeps the rows of the walks.
    pub fn rule(&self) -> WalkRule {
        WalkRule { layers: self.layers, width: self.width, decay: self.decay.unwrap_or(0.0), seed: self.seed }
    }
}

/// Checks optional settings.
///
/// # Errors
/// As [`WalkSpec::check`].
pub(crate) fn check(walks: Option<&WalkSpec>) -> Result<(), String> {
    walks.map_or(Ok(()), WalkSpec::check)
}

/// Fills in missing settings, if there are any settings.
pub(crate) fn complete(walks: Option<&mut WalkSpec>, facts: &DatasetStats) {
    walks.into_iter().for_each(|walks| walks.complete(facts));
}
