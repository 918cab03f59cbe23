//! What makes a training diverged: a number that is not finite, or a loss that grew beyond use.

use tempograph_framework::Parameters;
use tempograph_kernels::cpu::first_not_finite;

/// A mean loss that is so many times the loss of the first step (at least 1) has diverged.
pub const DIVERGED_LOSS: f64 = 1e6;
/// The mean loss of an epoch is tested after every so many of its steps, and at its end.
pub(crate) const LOSS_CHECK: u64 = 1000;

/// What was not finite in a step, by its position among all weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NotFinite {
    /// The loss; no step was taken.
    Loss(f32),
    /// A gradient; no step was taken.
    Gradient {
        /// Its weight's position.
        at: usize,
        /// The gradient.
        value: f32,
    },
    /// All gradients are finite, but the sum of their squares is not; no step was taken.
    Norm {
        /// Position of the weight of the largest gradient.
        at: usize,
        /// That gradient.
        value: f32,
    },
    /// A weight, after the step.
    Weight {
        /// Its position.
        at: usize,
        /// The weight.
        value: f32,
    },
}

impl NotFinite {
    /// Of gradients whose norm is not finite.
    pub(crate) fn of_gradients(gradients: &[f32]) -> NotFinite {
        if let Some(at) = first_not_finite(gradients) {
            return NotFinite::Gradient { at, value: gradients[at] };
        }
        let largest = (0..gradients.len()).max_by(|&a, &b| gradients[a].abs().total_cmp(&gradients[b].abs()));
        NotFinite::Norm { at: largest.unwrap_or(0), value: largest.map_or(0.0, |at| gradients[at]) }
    }

    /// The same in words, with the name of the weight.
    pub(crate) fn named(self, parameters: &Parameters) -> Divergence {
        let name = |at: usize| {
            let part = parameters.parts().iter().find(|part| part.range.contains(&at));
            part.map_or_else(|| format!("weight {at}"), |part| part.name.clone())
        };
        match self {
            NotFinite::Loss(loss) => Divergence::Loss(loss),
            NotFinite::Gradient { at, value } => Divergence::Gradient { name: name(at), value },
            NotFinite::Norm { at, value } => Divergence::Norm { name: name(at), value },
            NotFinite::Weight { at, value } => Divergence::Weight { name: name(at), value },
        }
    }
}

/// Why a training counts as diverged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Divergence {
    /// The loss is not finite.
    #[error("the loss is {0}")]
    Loss(f32),
    /// A gradient is not finite.
    #[error("a gradient of `{name}` is {value}")]
    Gradient {
        /// The weight.
        name: String,
        /// Its gradient.
        value: f32,
    },
    /// The gradients are finite, but not the sum of their squares.
    #[error("the gradients are too large to be added up, the largest is {value:e}, of `{name}`")]
    Norm {
        /// The weight of the largest.
        name: String,
        /// The largest.
        value: f32,
    },
    /// The norm of the gradients on a device is not finite.
    #[error("the norm of the gradients is {0}")]
    DeviceNorm(f32),
    /// A weight is not finite after the step.
    #[error("the step made a number of `{name}` {value}")]
    Weight {
        /// The weight.
        name: String,
        /// The number.
        value: f32,
    },
    /// A memory, or other state of a history, is not finite.
    #[error("the state of the history is not finite: {0}")]
    History(String),
    /// A score of the validation is not finite.
    #[error("the validation cannot be scored: {0}")]
    Score(String),
    /// The mean loss grew beyond use.
    #[error(
        "the mean loss of the epoch is {mean:e}, more than {DIVERGED_LOSS:e} times that of the run's first step, {first:e} (at least 1)"
    )]
    Growth {
        /// Mean loss of the epoch so far.
        mean: f64,
        /// Loss of the first step.
        first: f64,
    },
}
