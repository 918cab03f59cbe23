//! Small parts shared by the models: a linear map in PyTorch's layout and how weights begin.

use burn::module::{Module, Param};
use tempograph_framework::{Draw, Purpose, PurposeDraw};
use tempograph_kernels::tensor::{Backend, Tensor};
use tempograph_kernels::{TemporalOps, product};

/// `y = x W^T + b`, `W` `[out, in]` as in PyTorch.
#[derive(Module, Debug)]
pub(crate) struct Linear<B: Backend> {
    pub weight: Param<Tensor<B, 2>>,
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// PyTorch's default: both uniform in ±1/√in.
    pub fn new(init: &mut Init<B>, inputs: usize, outputs: usize, bias: bool) -> Linear<B> {
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        Linear { weight: init.uniform([outputs, inputs], bound), bias: bias.then(|| init.uniform([outputs], bound)) }
    }

    /// `[out, in + 1]`: the bias as a last column, zero where there is none.
    pub fn augmented(&self) -> Tensor<B, 2> {
        let weight = self.weight.val();
        let [outputs, _] = weight.dims();
        let column = match &self.bias {
            Some(bias) => bias.val().reshape([outputs, 1]),
            None => Tensor::zeros([outputs, 1], &weight.device()),
        };
        Tensor::cat(vec![weight, column], 1)
    }
}

impl<B: TemporalOps> Linear<B> {
    /// `[n, in] -> [n, out]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let y = product(x, self.weight.val().transpose());
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}

/// Draws initial weights, each from its own number, in the order they are asked for.
pub(crate) struct Init<B: Backend> {
    draw: PurposeDraw,
    next: u32,
    device: B::Device,
}

impl<B: Backend> Init<B> {
    pub fn new(seed: u64, device: &B::Device) -> Init<B> {
        Init { draw: Draw::new(seed).of(Purpose::Init), next: 0, device: device.clone() }
    }

    /// Uniform in `±bound`.
    pub fn uniform<const R: usize>(&mut self, shape: [usize; R], bound: f32) -> Param<Tensor<B, R>> {
        let mut chance = self.draw.at(self.next, 0);
        self.next += 1;
        let values = (0..shape.iter().product()).map(|_| (2.0 * chance.uniform() - 1.0) * bound).collect();
        self.values(values, shape)
    }

    /// The values as given.
    pub fn values<const R: usize>(&self, values: Vec<f32>, shape: [usize; R]) -> Param<Tensor<B, R>> {
        Param::from_data(burn::tensor::TensorData::new(values, shape), &self.device)
    }
}
