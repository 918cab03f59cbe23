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
    /// One step down `gradients`; gives the new model and the norm of all gradients before clipping.
    pub fn step<M: AutodiffModule<B>>(&mut self, model: M, gradients: B::Gradients, settings: &StepSettings) -> (M, f64) {
        let norm = norm::<B, M>(&model, &gradients);
        self.steps += 1;
        let (scale, constants) = (settings.scale(norm), settings.adam(self.steps));
        let mut step = Step { path: Path::default(), gradients, scale, constants, moments: &mut self.moments };
        (model.map(&mut step), norm)
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

struct Step<'a, B: AutodiffBackend> {
    path: Path,
    gradients: B::Gradients,
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
        let Some(gradient) = param.val().grad_remove(&mut self.gradients) else { return param };
        let gradient = if self.scale == 1.0 { gradient } else { gradient * self.scale };
        let (id, weight, mapper) = param.consume();
        let weight = weight.inner();
        let shape = weight.dims();
        let size = shape.iter().product::<usize>();
        let device = weight.device();
        let [first, second] =
            self.moments.remove(&self.path.dotted()).unwrap_or_else(|| [Tensor::zeros([size], &device), Tensor::zeros([size], &device)]);
        let (weight, first, second) = adam_step(weight.reshape([size]), gradient.reshape([size]), first, second, &self.constants);
        self.moments.insert(self.path.dotted(), [first, second]);
        Param::from_mapped_value(id, Tensor::from_inner(weight.reshape(shape)).require_grad(), mapper)
    }
}

fn norm<B: AutodiffBackend, M: AutodiffModule<B>>(model: &M, gradients: &B::Gradients) -> f64 {
    let mut squares = Squares::<B> { gradients, sum: 0.0 };
    model.visit(&mut squares);
    squares.sum.sqrt()
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
