//! What can be examined and what can be trained, whatever it computes with.

use tempograph_framework::{Batch, Needs, Queries, ResidentModel, Store, StoreError, Update, View};
use tempograph_kernels::AdamStep;

use crate::Stages;
use crate::crew::Crew;

/// A model that is asked, with the memory it answers in.
pub trait Examinee {
    /// What the model must be told of the past.
    fn needs(&self) -> Needs;

    /// Scores of the asked pairs, logits `[P]`, and what observing the batch will write. Nothing is dropped out.
    fn answer(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update);

    /// What observing will write where nothing is asked. The roots of `view` are the ends of the batch where the model
    /// [needs](Needs::ends) them, and none where it does not.
    fn advance(&mut self, view: &View) -> &Update;
}

/// A model that learns, together with its optimiser.
///
/// What it stores has one form for all implementors, so that one goes on where another stopped.
pub trait Trainee: Examinee {
    /// Takes one step down the gradient of [`link_loss`](crate::link_loss), of which the one that is asked has all.
    ///
    /// # Errors
    /// A loss that is not finite; nothing has been learned then.
    fn step(&mut self, asked: &Asked<'_>, settings: &StepSettings) -> Result<Taken<'_>, NotFinite>;

    /// Finds the way down for each lane, all by the same weights, and takes no step. Lane `l` is told `asked[l]`; one that has nothing to
    /// do finds nothing. What it found is kept for [`found`](Trainee::found).
    fn find(&mut self, asked: &[Option<Asked<'_>>], crew: &Crew);

    /// What lane `lane` found.
    fn found(&self, lane: usize) -> &Found;

    /// What observing the batch that lane `lane` was told will happen will write.
    fn update(&self, lane: usize) -> &Update;

    /// Takes one step down `gradients`, those of all weights in the order of [`Found::gradients`]. Gives their norm before clipping.
    fn descend(&mut self, gradients: &mut [f32], settings: &StepSettings) -> f64;

    /// Learned numbers.
    fn size(&self) -> usize;

    /// The weights under their dotted names.
    fn weights(&self) -> Store;

    /// Takes the weights of `store`, which must hold exactly the model's names and shapes.
    ///
    /// # Errors
    /// [`StoreError::Array`] for the first weight that is missing, left over or of another shape.
    fn restore_weights(&mut self, store: Store) -> Result<(), StoreError>;

    /// The optimiser's state: `steps`, and the moments `m.NAME` and `v.NAME` of the weights, each a flat array.
    fn moments(&self) -> Store;

    /// Takes up where [`moments`](Trainee::moments) left. A weight without moments has not been learned yet.
    ///
    /// # Errors
    /// [`StoreError::Array`] for moments of another size, or of no weight of the model.
    fn restore_moments(&mut self, store: Store) -> Result<(), StoreError>;

    /// The model on a device that has its weights and moments and trains with a history of its own, where there is one: then a plan of one
    /// lane trains there and reads no views.
    fn resident(&mut self) -> Option<&mut dyn ResidentModel> {
        None
    }
}

/// What a lane is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The pairs.
    pub queries: &'a Queries,
    /// Their past.
    pub view: &'a View,
    /// Seed of the dropout.
    pub dropout: u64,
    /// What its loss counts among those of all lanes, which add up to 1.
    pub share: f32,
    /// The batch that will happen after the step, where this lane is the one to say what observing it will write.
    pub happens: Option<Batch<'a>>,
}

impl<'a> Asked<'a> {
    /// What the only lane is asked that there is, under the dropout of seed `dropout`, about events that somebody else lets happen, if they do.
    pub fn alone(queries: &'a Queries, view: &'a View, dropout: u64) -> Asked<'a> {
        Asked { queries, view, dropout, share: 1.0, happens: None }
    }
}

/// What a lane found.
#[derive(Debug, Default)]
pub struct Found {
    /// Gradients of all weights, times the lane's share.
    pub gradients: Vec<f32>,
    /// The loss, not times the share; 0 of nothing.
    pub loss: f32,
    /// Time of its forward and its backward pass.
    pub stages: Stages,
}

impl Found {
    /// Finds nothing, for a model of `size` weights.
    pub(crate) fn nothing(&mut self, size: usize) {
        self.gradients.clear();
        self.gradients.resize(size, 0.0);
        (self.loss, self.stages) = (0.0, Stages::default());
    }
}

/// What a step is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSettings {
    /// Learning rate.
    pub lr: f64,
    /// Power that Adam's betas are taken to; 1 leaves them what they are.
    pub beta_power: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 does not clip.
    pub clip: f64,
}

/// A step that was taken.
#[derive(Debug)]
pub struct Taken<'a> {
    /// Mean loss of positives plus mean loss of negatives, before the step.
    pub loss: f32,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// What observing the batch will write, by the weights from before the step.
    pub update: &'a Update,
    /// Time of its forward pass, its backward pass and the optimiser; the other stages are nothing.
    pub stages: Stages,
}

/// A loss that is not finite, so that there is no way down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotFinite {
    /// The loss.
    pub loss: f32,
}

impl StepSettings {
    /// What gradients of this norm are multiplied by.
    pub(crate) fn scale(&self, norm: f64) -> f32 {
        if self.clip > 0.0 && norm > self.clip { (self.clip / norm) as f32 } else { 1.0 }
    }

    /// The optimiser's constants in its `step`-th step, counted from 1.
    pub(crate) fn adam(&self, step: u64) -> AdamStep {
        let [beta1, beta2] = [0.9f64, 0.999].map(|beta| beta.powi(self.beta_power as i32) as f32);
        AdamStep { lr: self.lr as f32, beta1, beta2, eps: 1e-8, weight_decay: self.weight_decay as f32, step }
    }
}
