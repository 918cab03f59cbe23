//! The operations on tensors.
use crate::tensor::kernels::Kernels;
use crate::{AttentionPlan, Cell, MailPlan, PairPlan};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use std::sync::Arc;

/// The trait that model code is generic over: the operations of this crate on a backend's primitives.
///
/// Implemented for [`Cpu`](crate::tensor::Cpu), for `Cuda` with feature `cuda`, for `Wgpu` with `wgpu`, and for each of
/// them under `Autodiff`.
pub trait TemporalOps: Backend {
    /// See [`memory_update_gru`]. Weights: `w_ih`, `w_hh`, `b_ih`, `b_hh`, `freq`, `phase`.
    fn memory_update(plan: Arc<MailPlan>, cell: Cell, weights: [FloatTensor<Self>; 6]) -> FloatTensor<Self>;

    /// See [`temporal_attention`]. Inputs: `hidden`, `query`, `freq`, `phase`.
    fn temporal_attention(plan: Arc<AttentionPlan>, inputs: [FloatTensor<Self>; 4]) -> FloatTensor<Self>;

    /// See [`attention_weights`]. Inputs: `hidden`, `query`, `freq`, `phase`. The result is not tracked.
    fn attention_weights(plan: &AttentionPlan, inputs: [FloatTensor<Self>; 4]) -> FloatTensor<Self>;

    /// See [`time_encode`]. Inputs: `freq`, `phase`.
    fn time_encode(dt: &[f32], inputs: [FloatTensor<Self>; 2]) -> FloatTensor<Self>;

    /// See [`gather_rows`].
    fn gather_rows(hidden: FloatTensor<Self>, rows: Arc<[u32]>) -> FloatTensor<Self>;

    /// See [`pair_scores`]. Inputs: `a`, `b`, `c` (without rows where nothing is added), `weight`, `bias`.
    fn pair_scores(plan: Arc<PairPlan>, inputs: [FloatTensor<Self>; 5]) -> FloatTensor<Self>;

    /// See [`product`].
    fn product(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: Kernels> TemporalOps for B {
    fn memory_update(plan: Arc<MailPlan>, cell: Cell, weights: [FloatTensor<B>; 6]) -> FloatTensor<B> {
        B::memory_forward(&plan, cell, &weights).0
    }

    fn temporal_attention(plan: Arc<AttentionPlan>, inputs: [FloatTensor<B>; 4]) -> FloatTensor<B> {
        B::attention_forward(&plan, &inputs).0
    }

    fn attention_weights(plan: &AttentionPlan, inputs: [FloatTensor<B>; 4]) -> FloatTensor<B> {
        <B as Kernels>::attention_weights(plan, &inputs)
    }

    fn time_encode(dt: &[f32], inputs: [FloatTensor<B>; 2]) -> FloatTensor<B> {
        B::time_forward(dt, &inputs)
    }

    fn gather_rows(hidden: FloatTensor<B>, rows: Arc<[u32]>) -> FloatTensor<B> {
        B::gather_forward(&hidden, &rows)
    }

    fn pair_scores(plan: Arc<PairPlan>, inputs: [FloatTensor<B>; 5]) -> FloatTensor<B> {
        B::pairs_forward(&plan, &inputs)
    }

    fn product(left: FloatTensor<B>, right: FloatTensor<B>) -> FloatTensor<B> {
        <B as Kernels>::product(&left, &right)
    }
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn wrap<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// New memory `[U, D]` of the nodes of a plan.
///
/// With the message `m = [own memory | other memory | edge features | cos(dt * freq + phase)]` of a row and its memory
/// `h`, `r = sigmoid(W_ir m + b_ir + W_hr h + b_hr)`, `z` likewise, `n = tanh(W_in m + b_in + r * (W_hn h + b_hn))`,
/// and the new memory is `(1 - z) n + z h`, as in PyTorch's `GRUCell`. Rows that are not listed keep their memory.
///
/// `w_ih` `[3D, 2D + E + T]`, `w_hh` `[3D, D]`, `b_ih` `[3D]`, `b_hh` `[3D]`, `freq` `[T]`, `phase` `[T]`, all
/// differentiable.
///
/// # Panics
/// If shapes do not fit together, as for every operation on tensors.
pub fn memory_update_gru<B: TemporalOps>(
    plan: Arc<MailPlan>,
    w_ih: Tensor<B, 2>,
    w_hh: Tensor<B, 2>,
    b_ih: Tensor<B, 1>,
    b_hh: Tensor<B, 1>,
    freq: Tensor<B, 1>,
    phase: Tensor<B, 1>,
) -> Tensor<B, 2> {
    let biases_and_time = [b_ih, b_hh, freq, phase];
    memory_update(plan, Cell::Gru, [w_ih, w_hh], biases_and_time)
}

/// As [`memory_update_gru`] with the new memory `tanh(W_ih m + b_ih + W_hh h + b_hh)`: `w_ih` is `[D, 2D + E + T]`.
///
/// # Panics
/// If shapes do not fit together.
pub fn memory_update_rnn<B: TemporalOps>(
    plan: Arc<MailPlan>,
    w_ih: Tensor<B, 2>,
    w_hh: Tensor<B, 2>,
    b_ih: Tensor<B, 1>,
    b_hh: Tensor<B, 1>,
    freq: Tensor<B, 1>,
    phase: Tensor<B, 1>,
) -> Tensor<B, 2> {
    let biases_and_time = [b_ih, b_hh, freq, phase];
    memory_update(plan, Cell::Rnn, [w_ih, w_hh], biases_and_time)
}

fn memory_update<B: TemporalOps>(
    plan: Arc<MailPlan>,
    cell: Cell,
    matrices: [Tensor<B, 2>; 2],
    vectors: [Tensor<B, 1>; 4],
) -> Tensor<B, 2> {
    let [w_ih, w_hh] = matrices.map(primitive);
    let [b_ih, b_hh, freq, phase] = vectors.map(primitive);
    wrap(B::memory_update(plan, cell, [w_ih, w_hh, b_ih, b_hh, freq, phase]))
}

/// Attention of roots over their recent neighbours, with the weights already moved to the query.
///
/// Neighbour `k` is `x_k = [hidden[row_k] | edge features | cos(dt_k * freq + phase) | 1]`, `X = W + E + T + 1`
/// numbers. Its score is `act(query . x_k)`, `a` is the softmax of the scores over the valid neighbours of a root, then
/// dropout, and the output is `sum over k of a_k x_k`, 0 for a root without neighbours.
///
/// `hidden` `[N, W]`, `query` `[H, R, X]`, `freq` `[T]`, `phase` `[T]`, all differentiable; the output is `[H, R, X]`.
///
/// # Panics
/// If shapes do not fit together, or a neighbour's row is not below `N`.
pub fn temporal_attention<B: TemporalOps>(
    plan: Arc<AttentionPlan>,
    hidden: Tensor<B, 2>,
    query: Tensor<B, 3>,
    freq: Tensor<B, 1>,
    phase: Tensor<B, 1>,
) -> Tensor<B, 3> {
    wrap(B::temporal_attention(plan, [primitive(hidden), primitive(query), primitive(freq), primitive(phase)]))
}

/// `cos(dt * freq + phase)`, `[n, T]`, differentiable in `freq` `[T]` and `phase` `[T]`.
pub fn time_encode<B: TemporalOps>(dt: &[f32], freq: Tensor<B, 1>, phase: Tensor<B, 1>) -> Tensor<B, 2> {
    wrap(B::time_encode(dt, [primitive(freq), primitive(phase)]))
}

/// `hidden[rows]`, `[rows, W]`, differentiable in `hidden` `[N, W]`.
///
/// # Panics
/// If a row is not below `N`.
pub fn gather_rows<B: TemporalOps>(hidden: Tensor<B, 2>, rows: impl Into<Arc<[u32]>>) -> Tensor<B, 2> {
    wrap(B::gather_rows(primitive(hidden), rows.into()))
}

/// `max(x, 0)`, differentiable. A NaN stays a NaN, which the tensor library's own function may take for the 0.
pub fn rectify<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let below = x.clone().lower_equal_elem(0.0);
    x.mask_fill(below, 0.0)
}

/// Scores of pairs, the last step of a link decoder: `score_p = weight . relu(a[i_p] + b[j_p] + c_p) + bias`, `[P]`.
///
/// `a` `[A, O]`, `b` `[B, O]`, `c` `[P, O]` if anything is added, `weight` `[1, O]`, `bias` `[1]`, all differentiable.
///
/// # Panics
/// If shapes do not fit together, or a pair has a row out of range.
pub fn pair_scores<B: TemporalOps>(
    plan: impl Into<Arc<PairPlan>>,
    a: Tensor<B, 2>,
    b: Tensor<B, 2>,
    c: Option<Tensor<B, 2>>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Tensor<B, 1> {
    let plan = plan.into();
    let ([rows_of_a, width], [rows_of_b, _]) = (a.dims(), b.dims());
    plan.check(rows_of_a, rows_of_b);
    let c = c.unwrap_or_else(|| Tensor::zeros([0, width], &a.device()));
    assert!([0, plan.i.len()].contains(&c.dims()[0]), "c is not [{}, {width}]", plan.i.len());
    let [a, b, c, weight] = [a, b, c, weight].map(primitive);
    wrap(B::pair_scores(plan, [a, b, c, weight, primitive(bias)]))
}

/// `left` `[.., n, m]` times `right` `[.., m, k]`, both with the same blocks. On devices inputs are rounded only to the
/// precision set for the program. The tensor library's own product would use TF32 wherever it is available.
///
/// # Panics
/// If shapes do not fit together.
pub fn product<B: TemporalOps, const D: usize>(left: Tensor<B, D>, right: Tensor<B, D>) -> Tensor<B, D> {
    wrap(B::product(primitive(left), primitive(right)))
}

/// The attention weights `[H, R, K]` of [`temporal_attention`] before dropout, to explain a score. Not tracked.
///
/// # Panics
/// If shapes do not fit together.
pub fn attention_weights<B: TemporalOps>(
    plan: &AttentionPlan,
    hidden: Tensor<B, 2>,
    query: Tensor<B, 3>,
    freq: Tensor<B, 1>,
    phase: Tensor<B, 1>,
) -> Tensor<B, 3> {
    wrap(B::attention_weights(plan, [primitive(hidden), primitive(query), primitive(freq), primitive(phase)]))
}
