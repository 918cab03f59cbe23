//! AdamW over all weights of a model as one array.
//!
//! Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019; Kingma & Ba, "Adam", 2015. Same arithmetic as
//! PyTorch's.

use rayon::prelude::*;
use tempograph_framework::{Parameters, Store, StoreError};
use tempograph_kernels::AdamStep;
use tempograph_kernels::cpu::{adam_step, first_not_finite, sum_of_squares, with_spinning_workers};

use crate::divergence::NotFinite;

/// Numbers of one task, as in the kernels.
const CHUNK: usize = 1 << 14;

/// The settings of one optimiser step.
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

impl StepSettings {
    /// The factor that clips gradients of this norm.
    fn scale(&self, norm: f64) -> f32 {
        if self.clip > 0.0 && norm > self.clip { (self.clip / norm) as f32 } else { 1.0 }
    }

    /// The optimiser's constants in its `step`-th step, counted from 1.
    pub(crate) fn adam(&self, step: u64) -> AdamStep {
        let [beta1, beta2] = [0.9f64, 0.999].map(|beta| beta.powi(self.beta_power as i32) as f32);
        AdamStep { lr: self.lr as f32, beta1, beta2, eps: 1e-8, weight_decay: self.weight_decay as f32, step }
    }
}

/// The optimiser: both moments of all weights, each one array in the order of [`Parameters`].
#[derive(Default)]
pub(crate) struct FlatAdam {
    pub steps: u64,
    pub first: Vec<f32>,
    pub second: Vec<f32>,
    /// Partial sums of the norm.
    partials: Vec<f64>,
}

impl FlatAdam {
    /// For `size` weights that have not been trained yet.
    pub fn new(size: usize) -> FlatAdam {
        FlatAdam { first: vec![0.0; size], second: vec![0.0; size], ..FlatAdam::default() }
    }

    /// Clips the gradients and applies one step to the weights. Gives the norm from before clipping.
    ///
    /// # Errors
    /// Gradients whose norm is not finite: no step was taken. Weights that are not finite after the step.
    pub fn step(
        &mut self,
        weights: &mut [f32],
        gradients: &mut [f32],
        settings: &StepSettings,
    ) -> Result<f64, NotFinite> {
        // One chunk is one task: it needs no other thread.
        if weights.len() <= CHUNK {
            self.apply(weights, gradients, settings)
        } else {
            with_spinning_workers(|| self.apply(weights, gradients, settings))
        }
    }

    fn apply(&mut self, weights: &mut [f32], gradients: &mut [f32], settings: &StepSettings) -> Result<f64, NotFinite> {
        let norm = sum_of_squares(gradients, &mut self.partials).sqrt();
        if !norm.is_finite() {
            return Err(NotFinite::of_gradients(gradients));
        }
        let scale = settings.scale(norm);
        if scale != 1.0 {
            gradients.par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|gradient| *gradient *= scale));
        }
        self.steps += 1;
        adam_step(weights, gradients, &mut self.first, &mut self.second, &settings.adam(self.steps));
        match first_not_finite(weights) {
            Some(at) => Err(NotFinite::Weight { at, value: weights[at] }),
            None => Ok(norm),
        }
    }

    /// The state as named arrays: `steps`, and of each weight the moments `m.NAME` and `v.NAME`, each flat.
    pub fn to_store(&self, parameters: &Parameters) -> Store {
        let mut store = Store::default();
        store.put("steps", [1], vec![self.steps]);
        for part in parameters.parts() {
            for (moment, values) in [("m", &self.first), ("v", &self.second)] {
                store.put(format!("{moment}.{}", part.name), [part.range.len()], values[part.range.clone()].to_vec());
            }
        }
        store
    }

    /// The state that [`to_store`](FlatAdam::to_store) gave. The moments of a weight that are not there are zeros.
    ///
    /// # Errors
    /// [`StoreError::Array`] for moments of another size, or of no weight of `parameters`.
    pub fn from_store(mut store: Store, parameters: &Parameters) -> Result<FlatAdam, StoreError> {
        let mut adam = FlatAdam::new(parameters.values().len());
        adam.steps = store.take_len::<u64>("steps", 1)?[0];
        for part in parameters.parts() {
            let (first, second) = (format!("m.{}", part.name), format!("v.{}", part.name));
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
