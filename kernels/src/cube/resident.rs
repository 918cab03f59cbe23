//! The operations on a past that lies on the device: nothing is sent and nothing is waited for.
use super::attention::{self, Constants};
use super::gather::{gather_span, scatter_span};
use super::grouping::group;
use super::history::DevicePast;
use super::span::Device;
use super::{attention_backward, memory, memory_backward};
use crate::{Cell, Dropout, ScoreActivation};
use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorMetadata, TensorPrimitive};
use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use std::fmt;
use std::sync::Arc;

/// A past that operations on the tape keep for their backward pass.
type Past<R> = Arc<DevicePast<R>>;

/// The operations on a past that lies on a device of runtime `R`, on the backend of that device with a tape or without.
pub trait DeviceOps<R: CubeRuntime>: Backend {
    /// See [`device_memory_update`]. Weights: `w_ih`, `w_hh`, `b_ih`, `b_hh`, `freq`, `phase`.
    fn device_memory_update(past: Arc<DevicePast<R>>, cell: Cell, weights: [FloatTensor<Self>; 6]) -> FloatTensor<Self>;

    /// See [`device_attention`]. Inputs: `hidden`, `query`, `freq`, `phase`.
    fn device_attention(past: Arc<DevicePast<R>>, scores: DeviceScores, inputs: [FloatTensor<Self>; 4]) -> FloatTensor<Self>;

    /// See [`device_roots`].
    fn device_roots(past: Arc<DevicePast<R>>, hidden: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What an attention on a device does to scores and weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeviceScores {
    /// Applied to scores before the softmax.
    pub activation: ScoreActivation,
    /// Applied to the attention weights after the softmax.
    pub dropout: Option<Dropout>,
}

impl DeviceScores {
    fn constants(self) -> Constants {
        Constants { activation: self.activation, dropout: self.dropout }
    }
}

/// New memory `[rows, D]` of every row of a past, by [`memory_update_gru`](crate::memory_update_gru) or its plain twin. Matrices: `w_ih` and
/// `w_hh`; vectors: `b_ih`, `b_hh`, `freq` and `phase`.
///
/// # Panics
/// Where shapes do not fit together.
pub fn device_memory_update<R: CubeRuntime, B: DeviceOps<R>>(
    past: &Arc<DevicePast<R>>,
    cell: Cell,
    matrices: [Tensor<B, 2>; 2],
    vectors: [Tensor<B, 1>; 4],
) -> Tensor<B, 2> {
    let [w_ih, w_hh] = matrices.map(primitive);
    let [b_ih, b_hh, freq, phase] = vectors.map(primitive);
    wrap(B::device_memory_update(past.clone(), cell, [w_ih, w_hh, b_ih, b_hh, freq, phase]))
}

/// [`temporal_attention`](crate::temporal_attention) of a past's roots over their neighbours. `hidden` has a row for each of the past's; `time` is
/// `freq` and `phase`.
///
/// # Panics
/// Where shapes do not fit together.
pub fn device_attention<R: CubeRuntime, B: DeviceOps<R>>(
    past: &Arc<DevicePast<R>>,
    scores: DeviceScores,
    hidden: Tensor<B, 2>,
    query: Tensor<B, 3>,
    time: [Tensor<B, 1>; 2],
) -> Tensor<B, 3> {
    let [freq, phase] = time.map(primitive);
    wrap(B::device_attention(past.clone(), scores, [primitive(hidden), primitive(query), freq, phase]))
}

/// The rows of a past's roots, `[R, W]`.
pub fn device_roots<R: CubeRuntime, B: DeviceOps<R>>(past: &Arc<DevicePast<R>>, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
    wrap(B::device_roots(past.clone(), primitive(hidden)))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn wrap<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn update<R: CubeRuntime>(past: &DevicePast<R>, cell: Cell, weights: &[CubeTensor<R>; 6]) -> (CubeTensor<R>, memory::Kept<R>) {
    let shape = memory::Shape::of(past.capacity, past.edge_width, cell, weights);
    memory::update(&Device::of(&weights[0]), &shape, &past.mail, past.capacity, weights)
}

fn attend<R: CubeRuntime>(past: &DevicePast<R>, scores: DeviceScores, inputs: &[CubeTensor<R>; 4]) -> [CubeTensor<R>; 2] {
    let (constants, device) = (scores.constants(), Device::of(&inputs[0]));
    let shape = attention::Shape::of(past.neighbours, past.edge_width, &constants, inputs);
    assert_eq!(
        [inputs[0].shape()[0], inputs[1].shape()[1]],
        [past.capacity, past.attention.count.len()],
        "rows of hidden and roots of query"
    );
    attention::attend(&device, &constants, &shape, &past.attention, inputs)
}

fn roots<R: CubeRuntime>(past: &DevicePast<R>, hidden: &CubeTensor<R>) -> CubeTensor<R> {
    let device = Device::of(hidden);
    let width = hidden.shape()[1];
    gather_span(&device, &device.span(hidden), &past.root_rows, width)
}

impl<R: CubeRuntime, T: BoolElement> DeviceOps<R> for CubeBackend<R, f32, i32, T> {
    fn device_memory_update(past: Past<R>, cell: Cell, weights: [CubeTensor<R>; 6]) -> CubeTensor<R> {
        let (output, _) = update(&past, cell, &weights);
        output
    }

    fn device_attention(past: Past<R>, scores: DeviceScores, inputs: [CubeTensor<R>; 4]) -> CubeTensor<R> {
        let [output, _] = attend(&past, scores, &inputs);
        output
    }

    fn device_roots(past: Past<R>, hidden: CubeTensor<R>) -> CubeTensor<R> {
        roots(&past, &hidden)
    }
}

/// Hands every tracked parent its gradient.
fn register<B: Backend, const N: usize>(parents: [Option<NodeId>; N], gradients: [FloatTensor<B>; N], grads: &mut Gradients) {
    for (parent, gradient) in parents.into_iter().zip(gradients) {
        if let Some(parent) = parent {
            grads.register::<B>(parent, gradient);
        }
    }
}

#[derive(Debug)]
struct UpdateBackward;

#[derive(Clone)]
struct UpdateState<R: CubeRuntime> {
    past: Past<R>,
    cell: Cell,
    weights: [CubeTensor<R>; 6],
    kept: memory::Kept<R>,
}

#[derive(Debug)]
struct AttendBackward;

#[derive(Clone)]
struct AttendState<R: CubeRuntime> {
    past: Past<R>,
    scores: DeviceScores,
    inputs: [CubeTensor<R>; 4],
    weights: CubeTensor<R>,
}

#[derive(Debug)]
struct RootsBackward;

#[derive(Clone)]
struct RootsState<R: CubeRuntime> {
    past: Past<R>,
    width: usize,
}

macro_rules! told_by_name {
    ($($state:ident),*) => {
        $(impl<R: CubeRuntime> fmt::Debug for $state<R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($state))
            }
        })*
    };
}
told_by_name!(UpdateState, AttendState, RootsState);

impl<R: CubeRuntime, T: BoolElement> Backward<CubeBackend<R, f32, i32, T>, 6> for UpdateBackward {
    type State = UpdateState<R>;

    fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<CubeBackend<R, f32, i32, T>>(&ops.node);
        let UpdateState { past, cell, weights, kept } = ops.state;
        let shape = memory::Shape::of(past.capacity, past.edge_width, cell, &weights);
        let gradients = memory_backward::gradients(&Device::of(&grad), &shape, &weights, &kept, &grad);
        register::<CubeBackend<R, f32, i32, T>, 6>(ops.parents.map(|parent| parent.map(|node| node.id)), gradients, grads);
    }
}

impl<R: CubeRuntime, T: BoolElement> Backward<CubeBackend<R, f32, i32, T>, 4> for AttendBackward {
    type State = AttendState<R>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<CubeBackend<R, f32, i32, T>>(&ops.node);
        let AttendState { past, scores, inputs, weights } = ops.state;
        let (constants, device) = (scores.constants(), Device::of(&grad));
        let shape = attention::Shape::of(past.neighbours, past.edge_width, &constants, &inputs);
        let gradients = attention_backward::gradients(&device, &constants, &shape, &past.attention, &inputs, &weights, &grad);
        register::<CubeBackend<R, f32, i32, T>, 4>(ops.parents.map(|parent| parent.map(|node| node.id)), gradients, grads);
    }
}

impl<R: CubeRuntime, T: BoolElement> Backward<CubeBackend<R, f32, i32, T>, 1> for RootsBackward {
    type State = RootsState<R>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<CubeBackend<R, f32, i32, T>>(&ops.node);
        let RootsState { past, width } = ops.state;
        let device = Device::of(&grad);
        let [starts, positions] = group(&device, &past.root_rows, past.capacity);
        let gradient = scatter_span(&device, &device.span(&grad), [&starts, &positions], past.capacity, width);
        register::<CubeBackend<R, f32, i32, T>, 1>(ops.parents.map(|parent| parent.map(|node| node.id)), [gradient], grads);
    }
}

impl<R: CubeRuntime, T: BoolElement, C: CheckpointStrategy> DeviceOps<R> for Autodiff<CubeBackend<R, f32, i32, T>, C> {
    fn device_memory_update(past: Past<R>, cell: Cell, weights: [FloatTensor<Self>; 6]) -> FloatTensor<Self> {
        let primitives = weights.each_ref().map(|weight| weight.primitive.clone());
        let (output, kept) = update(&past, cell, &primitives);
        let nodes = weights.each_ref().map(|weight| weight.node.clone());
        match Backward::<CubeBackend<R, f32, i32, T>, 6>::prepare::<C>(UpdateBackward, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(UpdateState { past, cell, weights: primitives, kept }, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn device_attention(past: Past<R>, scores: DeviceScores, inputs: [FloatTensor<Self>; 4]) -> FloatTensor<Self> {
        let primitives = inputs.each_ref().map(|input| input.primitive.clone());
        let [output, weights] = attend(&past, scores, &primitives);
        let nodes = inputs.each_ref().map(|input| input.node.clone());
        match Backward::<CubeBackend<R, f32, i32, T>, 4>::prepare::<C>(AttendBackward, nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(AttendState { past, scores, inputs: primitives, weights }, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn device_roots(past: Past<R>, hidden: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = roots(&past, &hidden.primitive);
        let width = hidden.primitive.shape()[1];
        match Backward::<CubeBackend<R, f32, i32, T>, 1>::prepare::<C>(RootsBackward, [hidden.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(RootsState { past, width }, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}
