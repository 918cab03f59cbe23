//! The learner: an executor, which computes gradients, and one optimiser, which applies them.

use tempograph_framework::{
    EventLog, Executor, History, LaneBatch, LaneGradients, LanePool, Needs, Parameters, Queries, ResidentModel, Scorer,
    Store, StoreError, Update, View,
};
use tempograph_kernels::cpu::Version;

use crate::StageTimes;
use crate::divergence::NotFinite;
use crate::step::adam::{FlatAdam, StepSettings};
use crate::step::walk::LapTimer;

/// A model that is trained: an executor of its passes and its optimiser. A step computes gradients, then applies them.
///
/// All executors share one form of checkpoint: one executor can resume the run of another.
pub struct Learner {
    executor: Box<dyn Executor>,
    adam: FlatAdam,
    device: Option<Resident>,
}

/// The same model on a device, where it trains with its history in device memory.
struct Resident {
    model: Box<dyn ResidentModel>,
    /// The version of the weights that the device has. It has their moments, too.
    version: Version,
}

/// What a step computed.
#[derive(Debug)]
pub struct StepOutput<'a> {
    /// Mean loss of positives plus mean loss of negatives, before the step.
    pub loss: f32,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// What observing the batch will write, by the weights from before the step.
    pub update: &'a Update,
    /// Time of its forward pass, its backward pass and the optimiser; the other stages are 0.
    pub stages: StageTimes,
}

impl Learner {
    /// A learner of the model of `executor`, which has not been trained yet. Its history lives in host memory.
    pub fn new(executor: Box<dyn Executor>) -> Learner {
        Learner { adam: FlatAdam::new(executor.parameters().values().len()), executor, device: None }
    }

    /// A learner whose model may also train on a device, with its history there. `model` and that of `executor` have
    /// the same weights and have not been trained yet; `executor` scores, and trains what is read as views.
    pub fn with_resident(executor: Box<dyn Executor>, model: Box<dyn ResidentModel>) -> Learner {
        let device = Resident { model, version: executor.parameters().version() };
        Learner { device: Some(device), ..Learner::new(executor) }
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        self.executor.parameters()
    }

    /// Sets the weights to those of `store`, which must hold exactly the model's names and shapes.
    ///
    /// # Errors
    /// [`StoreError::Array`] for the first weight that is missing, left over or of another shape.
    pub fn restore_weights(&mut self, store: Store) -> Result<(), StoreError> {
        let values = self.parameters().read(store)?;
        self.executor.parameters_mut().values_mut().copy_from_slice(&values);
        Ok(())
    }

    /// The optimiser's state: `steps`, and the moments `m.NAME` and `v.NAME` of the weights, each a flat array.
    pub fn moments(&self) -> Store {
        self.adam.to_store(self.parameters())
    }

    /// Restores the state of [`moments`](Learner::moments). Moments that are missing are zeros.
    ///
    /// # Errors
    /// [`StoreError::Array`] for moments of another size, or of no weight of the model.
    pub fn restore_moments(&mut self, store: Store) -> Result<(), StoreError> {
        self.adam = FlatAdam::from_store(store, self.parameters())?;
        // Changes the version of the weights: a device that has these weights does not have their moments.
        self.executor.parameters_mut().values_mut();
        Ok(())
    }

    /// Computes the gradients of one batch, of which this lane has all of the loss, and applies them.
    ///
    /// # Errors
    /// A loss, gradients or weights that are not finite; with the first two no step was taken.
    pub fn step(&mut self, batch: &LaneBatch<'_>, settings: &StepSettings) -> Result<StepOutput<'_>, NotFinite> {
        self.compute_gradients(&[Some(*batch)], &LanePool::new(1));
        let lane = self.executor.lane_mut(0);
        let (loss, mut stages) = (lane.loss, stages(lane));
        if !loss.is_finite() {
            return Err(NotFinite::Loss(loss));
        }
        let mut clock = LapTimer::start();
        let mut gradients = std::mem::take(&mut lane.gradients);
        let gradient_norm = self.apply(&mut gradients, settings);
        self.executor.lane_mut(0).gradients = gradients;
        let gradient_norm = gradient_norm?;
        stages.step = clock.lap();
        Ok(StepOutput { loss, gradient_norm, update: self.executor.update(0), stages })
    }

    /// Computes the gradients of each lane, all with the same weights. The weights stay as they are. See
    /// [`Executor::compute_gradients`].
    pub fn compute_gradients(&mut self, lanes: &[Option<LaneBatch<'_>>], pool: &LanePool) {
        self.executor.compute_gradients(lanes, pool);
    }

    /// The loss and gradients of lane `lane`.
    pub fn lane(&self, lane: usize) -> &LaneGradients {
        self.executor.lane(lane)
    }

    /// What observing the batch of lane `lane` will write.
    pub fn update(&self, lane: usize) -> &Update {
        self.executor.update(lane)
    }

    /// Applies one optimiser step to `gradients`, those of all weights or a sum of such, in the order of
    /// [`Parameters`]. They are clipped in place. Gives their norm before clipping.
    ///
    /// # Errors
    /// Gradients that are not finite, no step was taken then; weights that are not finite after the step.
    pub fn apply(&mut self, gradients: &mut [f32], settings: &StepSettings) -> Result<f64, NotFinite> {
        self.adam.step(self.executor.parameters_mut().values_mut(), gradients, settings)
    }

    /// Whether there is a model on a device that trains with a history of its own.
    pub fn has_resident(&self) -> bool {
        self.device.is_some()
    }

    /// Moves the history to the model on the device, with the weights and the moments. The learner's own weights and
    /// moments stay the old ones until [`move_to_host`](Learner::move_to_host).
    ///
    /// # Panics
    /// If there is [no such model](Learner::has_resident). So do the next two.
    pub(crate) fn move_to_device(&mut self, history: History, log: &EventLog) {
        let (parameters, adam) = (self.executor.parameters(), &self.adam);
        let device = resident(&mut self.device);
        if device.version != parameters.version() {
            device.model.set_parameters(parameters.values());
            device.model.set_moments(adam.steps, [&adam.first, &adam.second]);
        }
        device.model.load_history(history, log);
    }

    /// The model on the device, between [`move_to_device`](Learner::move_to_device) and
    /// [`move_to_host`](Learner::move_to_host).
    pub(crate) fn on_device(&mut self) -> &mut dyn ResidentModel {
        &mut *resident(&mut self.device).model
    }

    /// Copies the weights and the moments from the device, and gives the history back. Waits for the device.
    pub(crate) fn move_to_host(&mut self, log: &EventLog) -> History {
        let device = resident(&mut self.device);
        let history = device.model.take_history(log);
        let (steps, [first, second]) = device.model.moments();
        (self.adam.steps, self.adam.first, self.adam.second) = (steps, first, second);
        self.executor.parameters_mut().values_mut().copy_from_slice(device.model.parameters().values());
        device.version = self.executor.parameters().version();
        history
    }
}

fn resident(device: &mut Option<Resident>) -> &mut Resident {
    device.as_mut().unwrap_or_else(|| panic!("the learner has no model on a device"))
}

/// The times of a lane's passes.
pub(crate) fn stages(lane: &LaneGradients) -> StageTimes {
    StageTimes { forward: lane.forward_seconds, backward: lane.backward_seconds, ..StageTimes::default() }
}

impl Scorer for Learner {
    fn needs(&self) -> Needs {
        self.executor.needs()
    }

    fn score(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        self.executor.score(queries, view)
    }

    fn advance(&mut self, queries: &Queries, view: &View) -> &Update {
        self.executor.advance(queries, view)
    }
}
