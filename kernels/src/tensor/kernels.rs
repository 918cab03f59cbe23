//! The trait of backends with fused operations: forward and backward passes on their own primitives.
use crate::{AttentionPlan, Cell, MailPlan, PairPlan};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use std::fmt::Debug;

/// Forward and hand-written backward passes. Implemented by backends that compute, never by the tape.
pub trait Kernels: Backend {
    /// Saved arrays of a memory update for its backward pass.
    type SavedMemoryUpdate: Clone + Debug + Send + 'static;

    /// Saved arrays of an attention for its backward pass.
    type SavedAttention: Clone + Debug + Send + 'static;

    /// New memory `[U, D]`. Weights: `w_ih`, `w_hh`, `b_ih`, `b_hh`, `freq`, `phase`.
    fn memory_forward(
        plan: &MailPlan,
        cell: Cell,
        weights: &[FloatTensor<Self>; 6],
    ) -> (FloatTensor<Self>, Self::SavedMemoryUpdate);

    /// Gradients of the six weights.
    fn memory_backward(
        plan: &MailPlan,
        cell: Cell,
        weights: &[FloatTensor<Self>; 6],
        kept: Self::SavedMemoryUpdate,
        grad: &FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 6];

    /// Output `[H, R, X]`. Inputs: `hidden`, `query`, `freq`, `phase`.
    fn attention_forward(
        plan: &AttentionPlan,
        inputs: &[FloatTensor<Self>; 4],
    ) -> (FloatTensor<Self>, Self::SavedAttention);

    /// Attention weights `[H, R, K]` before dropout.
    fn attention_weights(plan: &AttentionPlan, inputs: &[FloatTensor<Self>; 4]) -> FloatTensor<Self>;

    /// Gradients of the four inputs.
    fn attention_backward(
        plan: &AttentionPlan,
        inputs: &[FloatTensor<Self>; 4],
        kept: Self::SavedAttention,
        grad: &FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 4];

    /// `[n, T]`. Inputs: `freq`, `phase`.
    fn time_forward(dt: &[f32], inputs: &[FloatTensor<Self>; 2]) -> FloatTensor<Self>;

    /// Gradients of both inputs.
    fn time_backward(dt: &[f32], inputs: &[FloatTensor<Self>; 2], grad: &FloatTensor<Self>) -> [FloatTensor<Self>; 2];

    /// `hidden[rows]`.
    fn gather_forward(hidden: &FloatTensor<Self>, rows: &[u32]) -> FloatTensor<Self>;

    /// Gradient of `hidden`, which has `count` rows.
    fn gather_backward(grad: &FloatTensor<Self>, rows: &[u32], count: usize) -> FloatTensor<Self>;

    /// `left` `[.., n, m]` times `right` `[.., m, k]`, with equal numbers of blocks.
    fn product(left: &FloatTensor<Self>, right: &FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(left.clone(), right.clone())
    }

    /// Scores `[P]`. Inputs: `a`, `b`, `c` (without rows where nothing is added), `weight` `[1, O]`, `bias` `[1]`.
    fn pairs_forward(plan: &PairPlan, inputs: &[FloatTensor<Self>; 5]) -> FloatTensor<Self>;

    /// Gradients of the five inputs.
    fn pairs_backward(
        plan: &PairPlan,
        inputs: &[FloatTensor<Self>; 5],
        grad: &FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 5];
}
