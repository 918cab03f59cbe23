//! AdamW over the named weights of a module on tensors.
//!
//! Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019; Kingma & Ba, "Adam", 2015. Same arithmetic as PyTorch's.

use std::collections::HashMap;

use burn::module::{AutodiffModule, ModuleMapper, ModuleVisitor, Param};
use tempograph_framework::{Path, Store, StoreError, values};
use tempograph_kernels::tensor::{AutodiffBackend, Tensor, TensorData};
use tempograph_kernels::{AdamStep, TemporalOps, adam_step};

use crate::trainee::StepSettings;

/// The two moments of each weight that was learned.
#[derive(Debug)]
pub(crate) struct Adam<B: AutodiffBackend> {
    steps: u64,
    moments: HashMap<String, [Tensor<B::InnerBackend, 1>; 2]>,
}

impl<B: AutodiffBackend> Default for Adam<B> {
    fn default() -> Adam<B> {
        Adam { steps: 0, moments: HashMap::new() }
    }
}

impl<B: AutodiffBackend> Adam<B>
where
    B::InnerBackend: TemporalOps,
{
    /// One step down the gradients of a tape; gives the new model and the norm of all gradients before clipping.
    pub fn step<M: AutodiffModule<B>>(
        &mut self,
        model: M,
        gradients: B::Gradients,
        settings: &StepSettings,
    ) -> (M, f64) {
        let norm = norm::<B, M>(&model, &gradients);
        (self.down(model, Slopes::Tape(gradients), norm, settings), norm)
    }

    /// One step down the numbers that [`flat`] told, or a sum of such; else as [`step`](Adam::step).
    pub fn step_flat<M: AutodiffModule<B>>(
        &mut self,
        model: M,
        gradients: &[f32],
        settings: &StepSettings,
    ) -> (M, f64) {
        let norm = gradients.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        (self.down(model, Slopes::Flat(gradients), norm, settings), norm)
    }

    fn down<M: AutodiffModule<B>>(
        &mut self,
        model: M,
        gradients: Slopes<'_, B>,
        norm: f64,
        settings: &StepSettings,
    ) -> M {
        self.steps += 1;
        let (scale, constants) = (settings.scale(norm), settings.adam(self.steps));
        model.map(&mut Step { path: Path::default(), gradients, scale, constants, moments: &mut self.moments })
    }

    /// Moments and step count.
    pub fn to_store(&self) -> Store {
        let mut store = Store::default();
        store.put("steps", [1], vec![self.steps]);
        for (name, [first, second]) in &self.moments {
            store.put(format!("m.{name}"), first.dims(), values(first.clone()));
            store.put(format!("v.{name}"), second.dims(), values(second.clone()));
        }
        store
    }

    /// Takes up where [`to_store`](Adam::to_store) left.
    pub fn from_store(mut store: Store, device: &B::Device) -> Result<Adam<B>, StoreError> {
        let mut adam = Adam { steps: store.take_len::<u64>("steps", 1)?[0], ..Adam::default() };
        let names: Vec<String> = store.names().filter_map(|name| name.strip_prefix("m.")).map(String::from).collect();
        for name in names {
            let (shape, first) = store.take::<f32>(&format!("m.{name}"))?;
            let second = store.take_len::<f32>(&format!("v.{name}"), first.len())?;
            let tensor = |values| Tensor::from_data(TensorData::new(values, shape.clone()), device);
            adam.moments.insert(name, [tensor(first), tensor(second)]);
        }
        Ok(adam)
    }
}

/// Where a step finds the gradient of each weight.
enum Slopes<'a, B: AutodiffBackend> {
    Tape(B::Gradients),
    /// Of all weights one after the other, in the order they are visited; what is left of them.
    Flat(&'a [f32]),
}

impl<B: AutodiffBackend> Slopes<'_, B> {
    /// The gradient of the next weight, if one reached it.
    fn next<const D: usize>(&mut self, weight: &Tensor<B, D>) -> Option<Tensor<B::InnerBackend, D>> {
        match self {
            Slopes::Tape(gradients) => weight.grad_remove(gradients),
            Slopes::Flat(rest) => {
                let (own, others) = rest.split_at(weight.shape().num_elements());
                *rest = others;
                Some(Tensor::from_data(TensorData::new(own.to_vec(), weight.shape()), &weight.device()))
            }
        }
    }
}

struct Step<'a, B: AutodiffBackend> {
    path: Path,
    gradients: Slopes<'a, B>,
    scale: f32,
    constants: AdamStep,
    moments: &'a mut HashMap<String, [Tensor<B::InnerBackend, 1>; 2]>,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Step<'_, B>
where
    B::InnerBackend: TemporalOps,
{
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(gradient) = self.gradients.next(&param.val()) else { return param };
        let gradient = if self.scale == 1.0 { gradient } else { gradient * self.scale };
        let (id, weight, mapper) = param.consume();
        let weight = weight.inner();
        let shape = weight.dims();
        let size = shape.iter().product::<usize>();
        let device = weight.device();
        let [first, second] = self
            .moments
            .remove(&self.path.dotted())
            .unwrap_or_else(|| [Tensor::zeros([size], &device), Tensor::zeros([size], &device)]);
        let (weight, first, second) =
            adam_step(weight.reshape([size]), gradient.reshape([size]), first, second, &self.constants);
        self.moments.insert(self.path.dotted(), [first, second]);
        Param::from_mapped_value(id, Tensor::from_inner(weight.reshape(shape)).require_grad(), mapper)
    }
}

fn norm<B: AutodiffBackend, M: AutodiffModule<B>>(model: &M, gradients: &B::Gradients) -> f64 {
    let mut squares = Squares::<B> { gradients, sum: 0.0 };
    model.visit(&mut squares);
    squares.sum.sqrt()
}

/// Writes the gradients of all weights over `flat`, times `share`, in the order they are visited; zeros where none reached.
pub(crate) fn flat<B: AutodiffBackend, M: AutodiffModule<B>>(
    model: &M,
    gradients: &B::Gradients,
    share: f32,
    flat: &mut Vec<f32>,
) {
    flat.clear();
    model.visit(&mut Flattened::<B> { gradients, share, flat });
}

struct Flattened<'a, B: AutodiffBackend> {
    gradients: &'a B::Gradients,
    share: f32,
    flat: &'a mut Vec<f32>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Flattened<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let weight = param.val();
        match weight.grad(self.gradients) {
            Some(gradient) => self.flat.extend(values(gradient).iter().map(|slope| self.share * slope)),
            None => self.flat.resize(self.flat.len() + weight.shape().num_elements(), 0.0),
        }
    }
}

struct Squares<'a, B: AutodiffBackend> {
    gradients: &'a B::Gradients,
    sum: f64,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Squares<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.sum += values(gradient).iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        }
    }
}
