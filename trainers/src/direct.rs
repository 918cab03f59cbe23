//! A model on slices of host memory, trained in place.

use rayon::prelude::*;
use tempograph_framework::{Answer, Needs, Parameters, Queries, SliceModel, Store, StoreError, Update, View};
use tempograph_kernels::cpu::{adam_step, stay_awake, sum_of_squares};

use crate::crew::Crew;
use crate::epoch::Clock;
use crate::loss::link_loss_on_slices;
use crate::trainee::{Asked, Examinee, Found, NotFinite, StepSettings, Taken, Trainee};

/// Numbers of one task where gradients are clipped.
const CHUNK: usize = 1 << 14;

/// A model whose passes are written by hand on slices, its optimiser, and all memory both compute in. Once the largest batch has been
/// seen, nothing asks for more.
pub struct Direct<M: SliceModel> {
    model: M,
    /// The first one answers, too.
    lanes: Vec<Lane<M>>,
    adam: FlatAdam,
}

/// What one lane computes in, and what it found.
struct Lane<M: SliceModel> {
    work: M::Work,
    /// Derivative of the loss in each score, `[P]`.
    slopes: Vec<f32>,
    found: Found,
}

/// AdamW over all weights at once.
#[derive(Default)]
pub(crate) struct FlatAdam {
    pub steps: u64,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
    pub partials: Vec<f64>,
}

impl<M: SliceModel> Direct<M> {
    /// A model that has not been trained yet.
    pub fn new(model: M) -> Direct<M> {
        let size = model.parameters().values().len();
        Direct { model, lanes: vec![Lane::new(size)], adam: FlatAdam::new(size) }
    }

    /// The model as it has been trained so far.
    pub fn model(&self) -> &M {
        &self.model
    }
}

impl<M: SliceModel> Lane<M> {
    /// For a model of `size` weights.
    fn new(size: usize) -> Lane<M> {
        let mut found = Found::default();
        found.nothing(size);
        Lane { work: M::Work::default(), slopes: Vec::new(), found }
    }

    /// Goes forward and back. Without a finite loss there is no way back.
    fn find(&mut self, model: &M, asked: &Asked<'_>) {
        let Lane { work, slopes, found } = self;
        let mut clock = Clock::start();
        model.forward(asked.queries, asked.view, Some(asked.dropout), work);
        found.loss = link_loss_on_slices(&work.as_ref().scores, asked.queries.positives(), slopes);
        found.stages.forward = clock.lap();
        if found.loss.is_finite() {
            if asked.share != 1.0 {
                slopes.iter_mut().for_each(|slope| *slope *= asked.share);
            }
            model.backward(asked.queries, asked.view, slopes, &mut found.gradients, work);
        }
        found.stages.backward = clock.lap();
    }
}

impl<M: SliceModel> Direct<M> {
    fn take_step(&mut self, asked: &Asked<'_>, settings: &StepSettings) -> Result<Taken<'_>, NotFinite> {
        let lane = &mut self.lanes[0];
        lane.find(&self.model, asked);
        let Found { gradients, loss, stages } = &mut lane.found;
        let (loss, mut stages) = (*loss, *stages);
        if !loss.is_finite() {
            return Err(NotFinite { loss });
        }
        let mut clock = Clock::start();
        let gradient_norm = self.adam.step(self.model.parameters_mut().values_mut(), gradients, settings);
        stages.step = clock.lap();
        Ok(Taken { loss, gradient_norm, update: &lane.work.as_ref().update, stages })
    }
}

impl<M: SliceModel> Examinee for Direct<M> {
    fn needs(&self) -> Needs {
        self.model.needs()
    }

    fn answer(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        let Direct { model, lanes, .. } = self;
        model.forward(queries, view, None, &mut lanes[0].work);
        let Answer { scores, update, .. } = lanes[0].work.as_ref();
        (scores, update)
    }

    fn advance(&mut self, view: &View) -> &Update {
        let Direct { model, lanes, .. } = self;
        model.advance(view, &mut lanes[0].work);
        &lanes[0].work.as_ref().update
    }
}

impl<M: SliceModel> Trainee for Direct<M> {
    fn step(&mut self, asked: &Asked<'_>, settings: &StepSettings) -> Result<Taken<'_>, NotFinite> {
        stay_awake(|| self.take_step(asked, settings))
    }

    fn find(&mut self, asked: &[Option<Asked<'_>>], crew: &Crew) {
        let (model, size) = (&self.model, self.size());
        self.lanes.resize_with(asked.len().max(self.lanes.len()), || Lane::new(size));
        crew.each(self.lanes.iter_mut().zip(asked), |(lane, asked)| match asked {
            Some(asked) => lane.find(model, asked),
            None => lane.found.nothing(size),
        });
    }

    fn found(&self, lane: usize) -> &Found {
        &self.lanes[lane].found
    }

    fn update(&self, lane: usize) -> &Update {
        &self.lanes[lane].work.as_ref().update
    }

    fn descend(&mut self, gradients: &mut [f32], settings: &StepSettings) -> f64 {
        self.adam.step(self.model.parameters_mut().values_mut(), gradients, settings)
    }

    fn size(&self) -> usize {
        self.model.parameters().values().len()
    }

    fn weights(&self) -> Store {
        self.model.parameters().to_store()
    }

    fn restore_weights(&mut self, store: Store) -> Result<(), StoreError> {
        let values = self.model.parameters().read(store)?;
        self.model.parameters_mut().values_mut().copy_from_slice(&values);
        Ok(())
    }

    fn moments(&self) -> Store {
        self.adam.to_store(self.model.parameters())
    }

    fn restore_moments(&mut self, store: Store) -> Result<(), StoreError> {
        self.adam = FlatAdam::from_store(store, self.model.parameters())?;
        Ok(())
    }
}

impl FlatAdam {
    fn new(size: usize) -> FlatAdam {
        FlatAdam { first: vec![0.0; size], second: vec![0.0; size], ..FlatAdam::default() }
    }

    /// Clips the gradients, takes a step, and gives the norm from before clipping.
    fn step(&mut self, weights: &mut [f32], gradients: &mut [f32], settings: &StepSettings) -> f64 {
        let norm = sum_of_squares(gradients, &mut self.partials).sqrt();
        let scale = settings.scale(norm);
        if scale != 1.0 {
            gradients.par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|gradient| *gradient *= scale));
        }
        self.steps += 1;
        adam_step(weights, gradients, &mut self.first, &mut self.second, &settings.adam(self.steps));
        norm
    }

    pub fn to_store(&self, beside: &Parameters) -> Store {
        let mut store = Store::default();
        store.put("steps", [1], vec![self.steps]);
        for part in beside.parts() {
            for (moment, values) in [("m", &self.first), ("v", &self.second)] {
                store.put(format!("{moment}.{}", part.name), [part.range.len()], values[part.range.clone()].to_vec());
            }
        }
        store
    }

    pub fn from_store(mut store: Store, beside: &Parameters) -> Result<FlatAdam, StoreError> {
        let mut adam = FlatAdam::new(beside.values().len());
        adam.steps = store.take_len::<u64>("steps", 1)?[0];
        for part in beside.parts() {
            let (first, second) = (format!("m.{}", part.name), format!("v.{}", part.name));
            // No step may have reached this weight yet.
            if store.names().any(|name| name == first) {
                let len = part.range.len();
                adam.first[part.range.clone()].copy_from_slice(&store.take_len::<f32>(&first, len)?);
                adam.second[part.range.clone()].copy_from_slice(&store.take_len::<f32>(&second, len)?);
            }
        }
        match store.names().next() {
            Some(name) => {
                Err(StoreError::Array { name: name.into(), problem: "belongs to no weight of this model".into() })
            }
            None => Ok(adam),
        }
    }
}
