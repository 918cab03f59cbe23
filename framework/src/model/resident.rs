//! Models on a device: one that trains there, and one that computes gradients there for an optimiser on the host.

use tempograph_kernels::AdamStep;

use crate::{Batch, EventLog, History, Needs, Parameters, PurposeDraw, Queries, Update, View};

/// A model with its weights and its optimiser on a device. A step is handed over and not waited for, unless its history
/// is in host memory: then what the step has made of the memories is.
///
/// The host sees the history only where it is given back, as the [`History`] that the same batches would have left in
/// host memory.
pub trait ResidentModel: Send {
    /// What the model must be told of the past.
    fn needs(&self) -> Needs;

    /// The weights as they are now. Waits for the device.
    fn parameters(&self) -> Parameters;

    /// Takes these numbers for its weights, in the order of [`parameters`](ResidentModel::parameters).
    ///
    /// # Panics
    /// Where there are not as many.
    fn set_parameters(&mut self, values: &[f32]);

    /// Steps taken, and both moments of the weights in their order. Waits for the device.
    fn moments(&self) -> (u64, [Vec<f32>; 2]);

    /// Takes up where [`moments`](ResidentModel::moments) left.
    ///
    /// # Panics
    /// Where there are not as many numbers.
    fn set_moments(&mut self, steps: u64, moments: [&[f32]; 2]);

    /// Goes on from what `history` has seen of `log`.
    fn load_history(&mut self, history: History, log: &EventLog);

    /// Gives back what has happened, as a history that follows `log`. Waits for the device. Before it goes on it has to
    /// [`load_history`](Self::load_history) one again.
    fn take_history(&mut self, log: &EventLog) -> History;

    /// Takes a step on `queries`, asked before `batch` happens, and lets it happen. `chance` draws neighbours,
    /// `dropout` is the seed of what is dropped, `clip` the largest norm of all gradients together, 0 for any. Where
    /// the loss is not finite, nothing is learned.
    ///
    /// # Panics
    /// Where [`steps_before_read`](ResidentModel::steps_before_read) is 0.
    fn train(
        &mut self,
        batch: &Batch<'_>,
        queries: &Queries,
        chance: PurposeDraw,
        dropout: u64,
        step: &AdamStep,
        clip: f32,
    );

    /// Steps there is room for before [`take_losses`](ResidentModel::take_losses) has to be asked.
    fn steps_before_read(&self) -> usize;

    /// Steps taken in all.
    fn steps(&self) -> u64;

    /// Loss and norm of all gradients before clipping of each step since this was last asked. Waits for the device.
    fn take_losses(&mut self) -> Vec<[f32; 2]>;
}

/// A model on a device that computes gradients from views of histories in host memory. The optimiser and the histories
/// are the host's: so any number of lanes, on any number of devices, may train one set of weights. Several threads may
/// call it at the same time.
pub trait DeviceModel: Send + Sync {
    /// Takes these numbers for its weights, in the order of [`Parameters`]. No pass may be under way.
    ///
    /// # Panics
    /// Where there are not as many.
    fn set_parameters(&mut self, values: &[f32]);

    /// Goes forward and back on `queries`, whose past is `view`; `dropout` is the seed of what is dropped. Where
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

/// What a pass on a device has computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceGradients {
    /// Its loss. Where it is not finite, the gradients mean nothing.
    pub loss: f32,
    /// Of all weights, in the order of [`Parameters`].
    pub gradients: Vec<f32>,
    /// The new memories of the nodes of the observed batch; none where no batch was given.
    pub update: Update,
}
