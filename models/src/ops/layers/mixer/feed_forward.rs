//! A norm and two maps with GELU between: `F(norm(x))`, `F(x) = drop(W2 drop(gelu(W1 x + b1)) + b2)`.

use tempograph_kernels::cpu::{
    Activation, InputGradient, LayerNorm, Linear, PaddedRows, drop_rows, gelu_rows, gelu_rows_backward,
};
use tempograph_kernels::tensor::Tensor;
use tempograph_kernels::{Dropout, TemporalOps};

use crate::operation::{Context, Declarations, Gradients, Map, Param, Products, TensorContext};
use crate::ops::tables::dropout::{drop_on_tensors, of_rows};
use crate::ops::tables::norm::norm_on_tensors;

/// Parameters and settings.
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    norm: [Param; 2],
    up: Map,
    down: Map,
    dropout: f32,
    /// Number of its dropout stream. It uses this one and the next.
    stream: u64,
}

impl FeedForward {
    /// Declares a block for rows of `width` columns, with `inner` columns between the maps. Parameters are called
    /// `NAME.norm…`, `NAME.up…` and `NAME.down…`.
    pub fn declare(
        parameters: &mut Declarations,
        name: &str,
        [width, inner]: [usize; 2],
        dropout: f32,
        stream: u64,
    ) -> FeedForward {
        FeedForward {
            norm: parameters.norm(&format!("{name}.norm"), width),
            up: parameters.linear(&format!("{name}.up"), width, inner, true),
            down: parameters.linear(&format!("{name}.down"), inner, width, true),
            dropout,
            stream,
        }
    }

    /// Dropout after GELU, and after the last map.
    fn dropped(&self, seed: Option<u64>) -> [Option<Dropout>; 2] {
        [0, 1].map(|behind| of_rows(self.dropout, seed, self.stream + behind))
    }

    /// Adds the cost of `rows` rows.
    pub fn cost(&self, rows: f64, products: &mut Products) {
        products.map(rows, self.up.inputs, self.up.outputs, self.up.inputs);
        products.map(rows, self.down.inputs, self.down.outputs, self.down.inputs);
    }

    /// The block on tensors.
    pub fn on_tensors<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [inner, last] = self.dropped(cx.dropout);
        let pre = cx.linear(&self.up, norm_on_tensors(cx, self.norm, x));
        // Not Burn's `gelu`, whose derivative is that of an approximation.
        let gelu = pre.clone() * ((pre * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5;
        drop_on_tensors(cx, cx.linear(&self.down, drop_on_tensors(cx, gelu, inner)), last)
    }
}

/// The block on slices: the activations that its backward pass needs.
#[derive(Debug, Default)]
pub(crate) struct FeedForwardStage {
    norm: LayerNorm,
    /// `[n, W]`
    normed: PaddedRows,
    /// `[n, I]` before GELU.
    pre: PaddedRows,
    up: Linear,
    down: Linear,
}

/// Working memory of one pass. Blocks of the same shape share it.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[n, I]` after GELU.
    inner: PaddedRows,
    /// `[n, I]`
    of_inner: PaddedRows,
    /// `[n, W]` the gradient after the last dropout, then that of the normed rows.
    of_rows: PaddedRows,
}

impl FeedForwardStage {
    /// Writes `y` from `x`, both `[n, W]`.
    pub fn forward(
        &mut self,
        op: &FeedForward,
        cx: &Context<'_>,
        x: &PaddedRows,
        scratch: &mut Scratch,
        y: &mut PaddedRows,
    ) {
        let ([inner, last], weights) = (op.dropped(cx.dropout), cx.weights);
        self.norm.forward(x, op.norm.map(|param| weights.values(param)), &mut self.normed);
        self.up.forward(&self.normed, weights.linear(&op.up), Activation::None, &mut self.pre);
        gelu_rows(&self.pre, inner, &mut scratch.inner);
        self.down.forward(&scratch.inner, weights.linear(&op.down), Activation::None, y);
        drop_rows(y, last);
    }

    /// Writes the gradients of the parameters and of `x`, given that of `y`.
    pub fn backward(
        &mut self,
        op: &FeedForward,
        cx: &Context<'_>,
        grad: &PaddedRows,
        scratch: &mut Scratch,
        gradients: &mut Gradients<'_>,
        of_x: &mut PaddedRows,
    ) {
        let ([inner, last], weights) = (op.dropped(cx.dropout), cx.weights);
        let Scratch { inner: behind, of_inner, of_rows } = scratch;
        let of_last = match last {
            None => grad,
            Some(_) => {
                of_rows.resize_like(grad);
                of_rows.values.copy_from_slice(&grad.values);
                drop_rows(of_rows, last);
                &*of_rows
            }
        };
        gelu_rows(&self.pre, inner, behind);
        let into = InputGradient::Replace(of_inner);
        self.down.backward(behind, weights.values(op.down.weight), of_last, gradients.map(&op.down), into);
        gelu_rows_backward(&self.pre, inner, of_inner);
        let into = InputGradient::Replace(of_rows);
        self.up.backward(&self.normed, weights.values(op.up.weight), of_inner, gradients.map(&op.up), into);
        self.norm.backward(of_rows, weights.values(op.norm[0]), gradients.params_mut(op.norm), of_x);
    }
}
