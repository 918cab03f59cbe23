//! A model on tensors, trained by the tape of the tensor library, and one that is only asked.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use burn::module::AutodiffModule;
use tempograph_framework::{Model, Needs, Queries, Store, StoreError, Update, View, values, weights, with_weights};
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::{AutodiffBackend, Backend};

use crate::Stages;
use crate::adam::{Adam, flat};
use crate::crew::Crew;
use crate::epoch::Clock;
use crate::loss::link_loss;
use crate::trainee::{Asked, Examinee, Found, NotFinite, StepSettings, Taken, Trainee};

/// Held from a step's forward pass to its optimiser step. The tensor library (burn-autodiff 0.21) keeps the tapes of all threads in one
/// place, and tidying up after one thread's backward pass can remove a node that another thread is about to build on: its gradient
/// would be missing without a word.
static TAPE: Mutex<()> = Mutex::new(());

/// A model on tensors that is asked and does not learn: one without weights, or one that was trained elsewhere.
#[derive(Debug)]
pub struct Untaped<B, M> {
    model: M,
    scores: Vec<f32>,
    update: Update,
    backend: PhantomData<B>,
}

impl<B: Backend, M: Model<B>> Untaped<B, M> {
    /// `model`, ready to be asked.
    pub fn new(model: M) -> Untaped<B, M> {
        Untaped { model, scores: Vec::new(), update: Update::none(), backend: PhantomData }
    }
}

impl<B: Backend, M: Model<B>> Examinee for Untaped<B, M> {
    fn needs(&self) -> Needs {
        self.model.needs()
    }

    fn answer(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        let forward = self.model.forward(queries, view, None);
        (self.scores, self.update) = (values(forward.scores), forward.update);
        (&self.scores, &self.update)
    }

    fn advance(&mut self, view: &View) -> &Update {
        self.update = self.model.advance(view);
        &self.update
    }
}

/// A model on tensors whose steps are recorded on the tape.
pub struct Taped<B: AutodiffBackend, M: AutodiffModule<B>> {
    /// `None` only while the optimiser changes it.
    model: Option<M>,
    /// The same weights off the tape, once they have been asked for since they last changed.
    plain: Option<Untaped<B::InnerBackend, M::InnerModule>>,
    adam: Adam<B>,
    /// What each lane of a plan found, and what observing writes; they take turns at the tape.
    lanes: Vec<(Found, Update)>,
    device: B::Device,
}

/// What going forward and back gives.
struct Pass<B: AutodiffBackend> {
    loss: f32,
    /// Nothing if the loss is not finite.
    gradients: Option<B::Gradients>,
    update: Update,
    stages: Stages,
}

impl<B, M> Taped<B, M>
where
    B: AutodiffBackend,
    B::InnerBackend: TemporalOps,
    M: Model<B> + AutodiffModule<B>,
    M::InnerModule: Model<B::InnerBackend>,
{
    /// A model that has not been trained yet; its weights are on `device`.
    pub fn new(model: M, device: &B::Device) -> Taped<B, M> {
        Taped {
            model: Some(model),
            plain: None,
            adam: Adam::default(),
            lanes: vec![Default::default()],
            device: device.clone(),
        }
    }

    fn model(&self) -> &M {
        self.model.as_ref().unwrap_or_else(|| unreachable!("the model is put back after each step"))
    }

    /// Goes forward and back; without a finite loss there is no way back. The tape must be the caller's.
    fn pass(&self, asked: &Asked<'_>) -> Pass<B> {
        let (mut clock, mut stages) = (Clock::start(), Stages::default());
        let forward = self.model().forward(asked.queries, asked.view, Some(asked.dropout));
        let loss = link_loss(forward.scores, asked.queries.positives());
        let value = values(loss.clone().detach())[0];
        stages.forward = clock.lap();
        let gradients = value.is_finite().then(|| loss.backward());
        stages.backward = clock.lap();
        Pass { loss: value, gradients, update: forward.update, stages }
    }

    /// Lets the optimiser change the model; gives the norm it found.
    fn learn(&mut self, step: impl FnOnce(&mut Adam<B>, M) -> (M, f64)) -> f64 {
        self.plain = None;
        let model = self.model.take().unwrap_or_else(|| unreachable!("the model is put back after each step"));
        let (model, norm) = step(&mut self.adam, model);
        self.model = Some(model);
        norm
    }

    fn plain(&mut self) -> &mut Untaped<B::InnerBackend, M::InnerModule> {
        let plain = self.plain.take().unwrap_or_else(|| Untaped::new(self.model().valid()));
        self.plain.insert(plain)
    }
}

impl<B: AutodiffBackend, M: AutodiffModule<B>> Drop for Taped<B, M> {
    /// Waits for the device. Nobody reads what the last step did to the weights, so its kernels may still be compiled and run; in a program that ends
    /// meanwhile the library of a device in software is torn down under its own threads.
    fn drop(&mut self) {
        // of a device that failed there is nothing to wait for, and whoever read from it has said so
        drop(B::sync(&self.device));
    }
}

impl<B, M> Examinee for Taped<B, M>
where
    B: AutodiffBackend,
    B::InnerBackend: TemporalOps,
    M: Model<B> + AutodiffModule<B>,
    M::InnerModule: Model<B::InnerBackend>,
{
    fn needs(&self) -> Needs {
        self.model().needs()
    }

    fn answer(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        self.plain().answer(queries, view)
    }

    fn advance(&mut self, view: &View) -> &Update {
        self.plain().advance(view)
    }
}

impl<B, M> Trainee for Taped<B, M>
where
    B: AutodiffBackend,
    B::InnerBackend: TemporalOps,
    M: Model<B> + AutodiffModule<B>,
    M::InnerModule: Model<B::InnerBackend>,
{
    fn step(&mut self, asked: &Asked<'_>, settings: &StepSettings) -> Result<Taken<'_>, NotFinite> {
        let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
        let Pass { loss, gradients, update, mut stages } = self.pass(asked);
        let Some(gradients) = gradients else { return Err(NotFinite { loss }) };
        let mut clock = Clock::start();
        let gradient_norm = self.learn(|adam, model| adam.step(model, gradients, settings));
        stages.step = clock.lap();
        self.lanes[0].1 = update;
        Ok(Taken { loss, gradient_norm, update: &self.lanes[0].1, stages })
    }

    fn find(&mut self, asked: &[Option<Asked<'_>>], _: &Crew) {
        let size = self.size();
        let mut lanes = std::mem::take(&mut self.lanes);
        lanes.resize_with(asked.len().max(lanes.len()), Default::default);
        for ((found, own), asked) in lanes.iter_mut().zip(asked) {
            found.nothing(size);
            let Some(asked) = asked else { continue };
            let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
            let Pass { loss, gradients, update, stages } = self.pass(asked);
            (found.loss, found.stages, *own) = (loss, stages, update);
            if let Some(gradients) = gradients {
                flat(self.model(), &gradients, asked.share, &mut found.gradients);
            }
        }
        self.lanes = lanes;
    }

    fn found(&self, lane: usize) -> &Found {
        &self.lanes[lane].0
    }

    fn update(&self, lane: usize) -> &Update {
        &self.lanes[lane].1
    }

    fn descend(&mut self, gradients: &mut [f32], settings: &StepSettings) -> f64 {
        self.learn(|adam, model| adam.step_flat(model, gradients, settings))
    }

    fn size(&self) -> usize {
        self.model().num_params()
    }

    fn weights(&self) -> Store {
        weights::<B, M>(self.model())
    }

    fn restore_weights(&mut self, store: Store) -> Result<(), StoreError> {
        self.model = Some(with_weights::<B, M>(self.model().clone(), store)?);
        self.plain = None;
        Ok(())
    }

    fn moments(&self) -> Store {
        self.adam.to_store()
    }

    fn restore_moments(&mut self, store: Store) -> Result<(), StoreError> {
        self.adam = Adam::from_store(store, &self.device)?;
        Ok(())
    }
}
