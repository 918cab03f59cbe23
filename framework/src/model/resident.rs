//! Models on a device: one that trains there, and one that computes gradients there for an optimiser on the host.

use tempograph_kernels::AdamStep;

use crate::{Batch, EventLog, History, Needs, Parameters, PurposeDraw, Queries, Update, View};

/// A model with its weights and its optimiser on a device. A step is started without waiting for its end, except when
/// its history is in host memory: then the step waits for its new memories.
///
/// The host has the history only after [`take_history`](Self::take_history), as the [`History`] that the same batches
/// would have left in host memory.
pub trait ResidentModel: Send {
    /// What the model needs of the past.
    fn needs(&self) -> Needs;

    /// The current weights. Waits for the device.
    fn parameters(&self) -> Parameters;

    /// Sets its weights, in the order of [`parameters`](ResidentModel::parameters).
    ///
    /// # Panics
    /// If the number of values differs.
    fn set_parameters(&mut self, values: &[f32]);

    /// Steps taken, and both moments of the weights in their order. Waits for the device.
    fn moments(&self) -> (u64, [Vec<f32>; 2]);

    /// Restores what [`moments`](ResidentModel::moments) returned.
    ///
    /// # Panics
    /// If the number of values differs.
    fn set_moments(&mut self, steps: u64, moments: [&[f32]; 2]);

    /// Goes on from the state of `history` after its events of `log`.
    fn load_history(&mut self, history: History, log: &EventLog);

    /// Returns the history, with `log` attached. Waits for the device. Call [`load_history`](Self::load_history)
    /// before the next step.
    fn take_history(&mut self, log: &EventLog) -> History;

    /// Trains one step on `queries`, which see the state before `batch`, and then observes `batch`. `chance` draws
    /// neighbours, `dropout` is the seed of the dropout, `clip` the largest norm of all gradients together, 0 for no
    /// limit. If the loss or that norm is not finite, the weights do not change.
    ///
    /// # Panics
    /// If [`steps_before_read`](ResidentModel::steps_before_read) is 0.
    fn train(
        &mut self,
        batch: &Batch<'_>,
        queries: &Queries,
        chance: PurposeDraw,
        dropout: u64,
        step: &AdamStep,
        clip: f32,
    );

    /// Steps that may be trained before [`take_losses`](ResidentModel::take_losses) has to be called.
    fn steps_before_read(&self) -> usize;

    /// Number of steps in all.
    fn steps(&self) -> u64;

    /// Loss and norm of all gradients before clipping of each step since the last call. Waits for the device.
    fn take_losses(&mut self) -> Vec<[f32; 2]>;
}

/// A model on a device that computes gradients from views of histories in host memory. The optimiser and the histories
/// are on the host, so any number of lanes, on any number of devices, may train one set of weights. Several threads
/// may call it at the same time.
pub trait DeviceModel: Send + Sync {
    /// Sets its weights, in the order of [`Parameters`]. No pass may be running.
    ///
    /// # Panics
    /// If the number of values differs.
    fn set_parameters(&mut self, values: &[f32]);

    /// Runs the forward and backward pass on `queries`, whose past is `view`; `dropout` is the seed of the dropout. If
    /// `observed` is given, the update that observing this batch writes is computed as well; its nodes are among those
    /// of the view. Waits for the device.
    fn compute_gradients(
        &self,
        queries: &Queries,
        view: &View,
        dropout: u64,
        observed: Option<&Batch<'_>>,
    ) -> DeviceGradients;
}

/// The results of a pass on a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceGradients {
    /// The loss. If it is not finite, the gradients are meaningless.
    pub loss: f32,
    /// Gradients of all weights, in the order of [`Parameters`].
    pub gradients: Vec<f32>,
    /// The new memories of the nodes of the observed batch; empty if no batch was given.
    pub update: Update,
}
