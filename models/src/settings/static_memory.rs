//! Settings of static memory in a spec.

use serde::{Deserialize, Serialize};

/// How a model reads static memory. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaticSpec {
    /// Where it enters: `off`, `add` to the memory through a learned map, or `concat` with it (`off`).
    pub how: StaticMemoryMode,
    /// Width `S` (100).
    pub width: usize,
    /// Whether it is fine-tuned with the model (false).
    pub train: bool,
    /// Share of the nodes whose vector a training step hides (0.1).
    pub hide: f32,
    /// Nodes that are fine-tuned; if missing, all nodes of the data set.
    pub nodes: Option<usize>,
}

/// Where static memory enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StaticMemoryMode {
    /// Nowhere.
    Off,
    /// Added to the memory, through a linear map.
    Add,
    /// Concatenated with the memory.
    Concat,
}

/// How static memory is pre-trained. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainSpec {
    /// Maximum number of passes over the training events (50).
    pub epochs: usize,
    /// Events per step (1000).
    pub batch: usize,
    /// Learning rate (3e-3).
    pub lr: f64,
    /// Decoupled weight decay of vectors and decoder (1).
    pub weight_decay: f64,
    /// Negatives per event (5).
    pub negatives: usize,
    /// Share of the training events, taken from their end, that is held out for early stopping; 0 makes all passes
    /// (0.1).
    pub tail: f64,
    /// Passes without a smaller loss on the held-out tail after which learning stops (3).
    pub patience: usize,
}

impl Default for StaticSpec {
    fn default() -> StaticSpec {
        StaticSpec { how: StaticMemoryMode::Off, width: 100, train: false, hide: 0.1, nodes: None }
    }
}

impl Default for PretrainSpec {
    fn default() -> PretrainSpec {
        PretrainSpec { epochs: 50, batch: 1000, lr: 3e-3, weight_decay: 1.0, negatives: 5, tail: 0.1, patience: 3 }
    }
}

impl StaticSpec {
    /// The settings; `None` if static memory is off.
    pub fn enabled(&self) -> Option<&StaticSpec> {
        (self.how != StaticMemoryMode::Off).then_some(self)
    }

    /// Checks the settings. The error names the key and its value.
    ///
    /// # Errors
    /// A sentence for a width or a number of nodes of zero, or a share outside `0..1`.
    pub fn check(&self) -> Result<(), String> {
        if self.width == 0 {
            return Err("model.static.width is 0; it must be at least 1".into());
        }
        if !(0.0..1.0).contains(&self.hide) {
            return Err(format!("model.static.hide = {}; it lies in 0 <= hide < 1", self.hide));
        }
        if self.nodes == Some(0) {
            return Err("model.static.nodes is 0; leave it out for all nodes of the data".into());
        }
        Ok(())
    }

    /// Fills in the number of fine-tuned nodes: all nodes of the data.
    pub(crate) fn complete(&mut self, nodes: usize) {
        if self.how != StaticMemoryMode::Off && self.train {
            self.nodes.get_or_insert(nodes);
        }
    }

    /// Number of nodes with a learned difference to the frozen vectors; 0 if these stay frozen.
    pub(crate) fn tuned(&self) -> usize {
        if self.train { self.nodes.unwrap_or(0) } else { 0 }
    }
}

impl PretrainSpec {
    /// Checks the settings. The error names the key and its value.
    ///
    /// # Errors
    /// A sentence for a count of zero, a rate that is not a number of the right sign, or a tail outside `0..1`.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in
            [("epochs", self.epochs), ("batch", self.batch), ("negatives", self.negatives), ("patience", self.patience)]
        {
            if value == 0 {
                return Err(format!("pretrain.{key} is 0; it must be at least 1"));
            }
        }
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return Err(format!("pretrain.lr = {}; it must be positive", self.lr));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err(format!("pretrain.weight_decay = {}; it must not be negative", self.weight_decay));
        }
        if !(0.0..1.0).contains(&self.tail) {
            return Err(format!("pretrain.tail = {}; it lies in 0 <= tail < 1", self.tail));
        }
        Ok(())
    }
}
