//! Linear maps of rows, with their gradients.
use super::matrix::Matrix;
use super::products::product;
use super::reduce::sum_rows_into;
use super::span::{UNITS, transposed, units};
use super::weights::Weight;
use crate::cpu::Activation;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// `y = x Wᵀ + b`: `W` `[out, in]` and, where there is one, `b` `[out]`.
#[derive(Clone, Debug)]
pub struct Map<R: CubeRuntime> {
    /// `[out, in]`
    pub weight: Weight<R>,
    /// `[out]`
    pub bias: Option<Weight<R>>,
}

/// What is done to products on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Finish {
    width: usize,
    biased: bool,
    relu: bool,
}

#[cube(launch)]
fn finish_kernel(bias: &Array<f32>, out: &mut Array<f32>, #[comptime] finish: Finish) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let mut value = out[i];
        if comptime!(finish.biased) {
            value += bias[i % comptime!(finish.width)];
        }
        if comptime!(finish.relu) {
            value = f32::max(value, 0.0f32);
        }
        out[i] = value;
    }
}

/// Clears the gradient where the rectified value is 0.
#[cube(launch)]
fn rectify_kernel(rectified: &Array<f32>, grad: &mut Array<f32>) {
    let i = ABSOLUTE_POS;
    if i < grad.len() && rectified[i] <= 0.0f32 {
        grad[i] = 0.0f32;
    }
}

impl<R: CubeRuntime> Map<R> {
    fn outputs(&self, inputs: usize) -> usize {
        self.weight.len() / inputs
    }

    /// `[n, out]` from `x` `[n, in]`.
    ///
    /// # Panics
    /// Where the weight does not have columns for `x`.
    pub fn forward(&self, x: &Matrix<R>, activation: Activation) -> Matrix<R> {
        let outputs = self.outputs(x.columns());
        assert_eq!(outputs * x.columns(), self.weight.len(), "columns of a linear map");
        let out = Matrix::new(&x.device, x.rows(), outputs);
        if x.rows() == 0 {
            return out;
        }
        product(x.tensor(), transposed(&self.weight.matrix(&x.device, x.columns()).tensor()), out.tensor());
        let finish = Finish { width: outputs, biased: self.bias.is_some(), relu: activation == Activation::Relu };
        if finish.biased || finish.relu {
            let bias = self.bias.as_ref().unwrap_or(&self.weight).value();
            let count = units(out.span.len());
            finish_kernel::launch::<R>(&x.device.client, count, CubeDim::new_1d(UNITS), bias.arg(), out.span.arg(), finish);
        }
        out
    }

    /// Writes the gradients of weight and bias; gives that of `x`. `grad` `[n, out]` is that of what [`forward`](Map::forward) gave.
    pub fn backward(&self, x: &Matrix<R>, grad: &Matrix<R>) -> Matrix<R> {
        self.weights_backward(x, grad);
        let out = Matrix::new(&x.device, x.rows(), x.columns());
        if x.rows() > 0 {
            product(grad.tensor(), self.weight.matrix(&x.device, x.columns()).tensor(), out.tensor());
        }
        out
    }

    /// As [`backward`](Map::backward) of a rectified `y`, whose gradient is written over.
    pub fn rectified_backward(&self, x: &Matrix<R>, y: &Matrix<R>, grad: &Matrix<R>) -> Matrix<R> {
        if y.rows() > 0 {
            let count = units(y.span.len());
            rectify_kernel::launch::<R>(&x.device.client, count, CubeDim::new_1d(UNITS), y.span.arg(), grad.span.arg());
        }
        self.backward(x, grad)
    }

    fn weights_backward(&self, x: &Matrix<R>, grad: &Matrix<R>) {
        let (device, outputs) = (&x.device, self.outputs(x.columns()));
        if x.rows() == 0 {
            return;
        }
        let gradient = Matrix::of(device, self.weight.gradient().clone(), outputs, x.columns());
        product(transposed(&grad.tensor()), x.tensor(), gradient.tensor());
        if let Some(bias) = &self.bias {
            sum_rows_into(device, &grad.span, grad.rows(), outputs, bias.gradient());
        }
    }
}
