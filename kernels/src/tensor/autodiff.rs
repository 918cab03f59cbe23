//! The operations on the tape: each is one node with a hand-written backward pass.
use crate::tensor::kernels::Kernels;
use crate::{AttentionPlan, Cell, MailPlan, PairPlan, TemporalOps};
use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::TensorMetadata;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::ops::FloatTensor;
use std::sync::Arc;

/// Passes every tracked parent its gradient.
fn register<B: Kernels, const N: usize>(
    parents: [Option<NodeId>; N],
    gradients: [FloatTensor<B>; N],
    grads: &mut Gradients,
) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some(parent) = parent {
            grads.register::<B>(parent, gradient);
        }
    }
}

/// The gradient of an operation's result, and the tracked ones among its parents.
macro_rules! incoming {
    ($ops:ident, $grads:ident) => {
        ($grads.consume::<B>(&$ops.node), $ops.parents.map(|parent| parent.map(|node| node.id)))
    };
}

#[derive(Debug)]
struct MemoryBackward;

#[derive(Clone, Debug)]
struct MemoryState<P, K> {
    plan: Arc<MailPlan>,
    cell: Cell,
    weights: [P; 6],
    kept: K,
}

impl<B: Kernels> Backward<B, 6> for MemoryBackward {
    type State = MemoryState<FloatTensor<B>, B::SavedMemoryUpdate>;

    fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, parents) = incoming!(ops, grads);
        let MemoryState { plan, cell, weights, kept } = ops.state;
        register::<B, 6>(parents, B::memory_backward(&plan, cell, &weights, kept, &grad), grads);
    }
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Clone, Debug)]
struct AttentionState<P, K> {
    plan: Arc<AttentionPlan>,
    inputs: [P; 4],
    kept: K,
}

impl<B: Kernels> Backward<B, 4> for AttentionBackward {
    type State = AttentionState<FloatTensor<B>, B::SavedAttention>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, parents) = incoming!(ops, grads);
        let AttentionState { plan, inputs, kept } = ops.state;
        register::<B, 4>(parents, B::attention_backward(&plan, &inputs, kept, &grad), grads);
    }
}

#[derive(Debug)]
struct TimeBackward;

impl<B: Kernels> Backward<B, 2> for TimeBackward {
    type State = (Arc<[f32]>, [FloatTensor<B>; 2]);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, parents) = incoming!(ops, grads);
        let (dt, inputs) = ops.state;
        register::<B, 2>(parents, B::time_backward(&dt, &inputs, &grad), grads);
    }
}

#[derive(Debug)]
struct GatherBackward;

impl<B: Kernels> Backward<B, 1> for GatherBackward {
    type State = (Arc<[u32]>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, parents) = incoming!(ops, grads);
        let (rows, count) = ops.state;
        register::<B, 1>(parents, [B::gather_backward(&grad, &rows, count)], grads);
    }
}

#[derive(Debug)]
struct ProductBackward;

impl<B: Kernels> Backward<B, 2> for ProductBackward {
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, parents) = incoming!(ops, grads);
        let axes = grad.shape().num_dims();
        let [left, right] = ops.state.map(|tensor| B::float_swap_dims(tensor, axes - 2, axes - 1));
        register::<B, 2>(
            parents,
            [<B as Kernels>::product(&grad, &right), <B as Kernels>::product(&left, &grad)],
            grads,
        );
    }
}

#[derive(Debug)]
struct PairsBackward;

impl<B: Kernels> Backward<B, 5> for PairsBackward {
    type State = (Arc<PairPlan>, [FloatTensor<B>; 5]);

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (grad, parents) = incoming!(ops, grads);
        let (plan, inputs) = ops.state;
        register::<B, 5>(parents, B::pairs_backward(&plan, &inputs, &grad), grads);
    }
}

impl<B: Kernels, C: CheckpointStrategy> TemporalOps for Autodiff<B, C> {
    fn memory_update(plan: Arc<MailPlan>, cell: Cell, weights: [FloatTensor<Self>; 6]) -> FloatTensor<Self> {
        let primitives = weights.each_ref().map(|weight| weight.primitive.clone());
        let (output, kept) = B::memory_forward(&plan, cell, &primitives);
        match MemoryBackward
            .prepare::<C>(weights.each_ref().map(|weight| weight.node.clone()))
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(MemoryState { plan, cell, weights: primitives, kept }, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn temporal_attention(plan: Arc<AttentionPlan>, inputs: [FloatTensor<Self>; 4]) -> FloatTensor<Self> {
        let primitives = inputs.each_ref().map(|input| input.primitive.clone());
        let (output, kept) = B::attention_forward(&plan, &primitives);
        match AttentionBackward
            .prepare::<C>(inputs.each_ref().map(|input| input.node.clone()))
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(AttentionState { plan, inputs: primitives, kept }, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn attention_weights(plan: &AttentionPlan, inputs: [FloatTensor<Self>; 4]) -> FloatTensor<Self> {
        Self::from_inner(<B as TemporalOps>::attention_weights(plan, inputs.map(|input| input.primitive)))
    }

    fn time_encode(dt: &[f32], inputs: [FloatTensor<Self>; 2]) -> FloatTensor<Self> {
        let primitives = inputs.each_ref().map(|input| input.primitive.clone());
        let output = B::time_forward(dt, &primitives);
        match TimeBackward.prepare::<C>(inputs.each_ref().map(|input| input.node.clone())).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((dt.into(), primitives), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn gather_rows(hidden: FloatTensor<Self>, rows: Arc<[u32]>) -> FloatTensor<Self> {
        let output = B::gather_forward(&hidden.primitive, &rows);
        match GatherBackward.prepare::<C>([hidden.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((rows, hidden.primitive.shape()[0]), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn pair_scores(plan: Arc<PairPlan>, inputs: [FloatTensor<Self>; 5]) -> FloatTensor<Self> {
        let primitives = inputs.each_ref().map(|input| input.primitive.clone());
        let output = B::pairs_forward(&plan, &primitives);
        match PairsBackward.prepare::<C>(inputs.each_ref().map(|input| input.node.clone())).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((plan, primitives), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn product(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = <B as Kernels>::product(&left.primitive, &right.primitive);
        match ProductBackward.prepare::<C>([left.node.clone(), right.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish([left.primitive, right.primitive], output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
