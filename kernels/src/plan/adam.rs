//! The constants of one optimiser step.

/// One step of Adam, or of AdamW where `weight_decay` is not 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled decay: the parameter is first multiplied by `1 - lr * weight_decay`.
    pub weight_decay: f32,
    /// Which step this is, from 1.
    pub step: u64,
}

impl AdamStep {
    /// `lr / (1 - beta1^step)`.
    pub(crate) fn step_size(&self) -> f32 {
        (f64::from(self.lr) / (1.0 - f64::from(self.beta1).powf(self.step as f64))) as f32
    }

    /// `sqrt(1 - beta2^step)`.
    pub(crate) fn root_correction(&self) -> f32 {
        (1.0 - f64::from(self.beta2).powf(self.step as f64)).sqrt() as f32
    }
}
