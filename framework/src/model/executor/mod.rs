//! Executors of a model's passes: on slices of host memory, on tensors with a tape, or on devices.
//!
//! An executor has no optimiser and no history. A learner gets scores and gradients from it and changes its
//! parameters. The learner does not depend on how the executor computes, so one learner trains with each of them, and
//! one can continue a run of another.

mod devices;
mod loss;
mod pool;
mod slices;
mod tensors;

pub use devices::DeviceExecutor;
pub use loss::{RowLabels, RowTargets, link_loss, link_loss_on_slices, row_loss, row_loss_on_slices};
pub use pool::LanePool;
pub use slices::SliceExecutor;
pub use tensors::{TensorExecutor, TensorScorer};

use crate::{Batch, Needs, Parameters, Queries, Update, View};

/// Scores pairs and advances memories. It has no gradients.
pub trait Scorer {
    /// What a history keeps for the model.
    fn needs(&self) -> Needs;

    /// Scores of the pairs of `queries`, logits `[P]`, and the update that observing the batch of `view` writes.
    /// Without dropout.
    fn score(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update);

    /// The update alone. `queries` are those the view was read for; no pair of them is scored.
    fn advance(&mut self, queries: &Queries, view: &View) -> &Update;
}

/// Computes the passes of one model, forward and backward.
///
/// The weights are [`parameters`](Executor::parameters), one flat array in host memory. An executor that computes with
/// copies (tensors or blocks of a device) updates them before a pass if the [version](Parameters::version) has
/// changed.
pub trait Executor: Scorer + Send {
    /// The weights.
    fn parameters(&self) -> &Parameters;

    /// The weights, for writing in place.
    fn parameters_mut(&mut self) -> &mut Parameters;

    /// Computes the gradients of each lane, all with the same weights. Lane `l` trains `lanes[l]`; the gradients and
    /// the loss of a lane without a batch are zeros. If a loss is not finite, the gradients of that lane are
    /// meaningless.
    fn compute_gradients(&mut self, lanes: &[Option<LaneBatch<'_>>], pool: &LanePool);

    /// The last result of [`compute_gradients`](Executor::compute_gradients) for lane `lane`.
    ///
    /// # Panics
    /// If there was no such lane.
    fn lane(&self, lane: usize) -> &LaneGradients;

    /// The same, for writing in place: an optimiser clips there. The next
    /// [`compute_gradients`](Executor::compute_gradients) overwrites it.
    ///
    /// # Panics
    /// If there was no such lane.
    fn lane_mut(&mut self, lane: usize) -> &mut LaneGradients;

    /// The update that lane `lane` computed. An executor may compute it only for lanes whose batch has
    /// [`observed`](LaneBatch::observed).
    ///
    /// # Panics
    /// If there was no such lane.
    fn update(&self, lane: usize) -> &Update;
}

/// The input of one lane in one step.
#[derive(Clone, Copy, Debug)]
pub struct LaneBatch<'a> {
    /// The pairs.
    pub queries: &'a Queries,
    /// The past of their roots.
    pub view: &'a View,
    /// Seed of the dropout.
    pub dropout: u64,
    /// Weight of this lane's loss. The shares of all lanes sum to 1.
    pub share: f32,
    /// The batch that is observed after the step, if this lane computes its update.
    pub observed: Option<Batch<'a>>,
    /// The targets of a head with outputs for each root, for a model that has one. Without them the model scores
    /// pairs.
    pub targets: Option<RowTargets<'a>>,
}

impl<'a> LaneBatch<'a> {
    /// The batch of the only lane, with dropout under seed `dropout`.
    pub fn single(queries: &'a Queries, view: &'a View, dropout: u64) -> LaneBatch<'a> {
        LaneBatch { queries, view, dropout, share: 1.0, observed: None, targets: None }
    }
}

/// The gradients of one lane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LaneGradients {
    /// Gradients of all weights, in the order of [`Parameters`], times the lane's share.
    pub gradients: Vec<f32>,
    /// Mean loss of the positives plus mean loss of the negatives, or the loss of the targets; not times the share.
    pub loss: f32,
    /// Seconds of the forward pass and the loss.
    pub forward_seconds: f64,
    /// Seconds of the backward pass.
    pub backward_seconds: f64,
}

impl LaneGradients {
    /// The gradients of a lane without a batch, for a model of `size` weights.
    fn zeros(size: usize) -> LaneGradients {
        LaneGradients { gradients: vec![0.0; size], ..LaneGradients::default() }
    }

    /// Sets this to [`zeros`](LaneGradients::zeros), in the same memory.
    fn clear(&mut self, size: usize) {
        self.gradients.clear();
        self.gradients.resize(size, 0.0);
        (self.loss, self.forward_seconds, self.backward_seconds) = (0.0, 0.0, 0.0);
    }
}

/// A stop watch that is read in laps.
struct Stopwatch(std::time::Instant);

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Seconds since the last lap.
    fn lap(&mut self) -> f64 {
        let now = std::time::Instant::now();
        (now - std::mem::replace(&mut self.0, now)).as_secs_f64()
    }
}
