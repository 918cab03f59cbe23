//! Gradients of temporal attention. Neighbours are read again; the forward pass saved only their weights.
use crate::AttentionPlan;
use crate::cube::array::dropout::Mask;
use crate::cube::array::math::{sin, time_argument};
use crate::cube::kernel::attention::{
    Constants, Inputs, Neighbourhood, Saved, Shape, UNITS, dots, dropout_factor, mix, slope, task, tasks,
};
use crate::cube::kernel::time::sum_time_partials;
use crate::cube::launch::buffer::{Device, DeviceBuffer, cubes, padded, zeros};
use crate::cube::launch::plans::NeighbourBuffers;
use crate::cube::launch::reduce::{COLUMNS, ROWS, sum_unit_rows};
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// `[H, R, K]` each. The gradient of slot `k` is the sum over heads of `dropped * output gradient + score * query`.
#[derive(CubeType, CubeLaunch)]
struct Shares {
    /// Attention weights after dropout.
    dropped: Array<f32>,
    /// Gradients of the scores.
    score: Array<f32>,
}

/// The gradient of `query` `[H, R, X]`, and the arrays from which the other gradients are computed.
#[cube(launch)]
fn query_kernel(
    neighbours: &Neighbourhood,
    query: &Array<f32>,
    grad: &Array<f32>,
    mask: &Mask,
    activation: f32,
    weights: &Array<f32>,
    shares: &mut Shares,
    out: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let task = task(neighbours, shape);
    let (at, head, root) = (task.at, task.head, task.root);
    let k = comptime!(shape.k);
    let start = at * comptime!(shape.x);
    let mut scores = SharedMemory::<f32>::new(k);
    let mut grads = SharedMemory::<f32>::new(k);
    dots(neighbours, root, grad, start, &mut grads, shape);
    if comptime!(shape.leaky) {
        dots(neighbours, root, query, start, &mut scores, shape);
    }

    let count = neighbours.count[root] as usize;
    let mut mean = 0.0f32;
    for slot in 0..count {
        mean += weights[at * k + slot] * (grads[slot] * dropout_factor(neighbours, mask, root, head, slot, shape));
    }
    for slot in range_stepped(UNIT_POS as usize, k, comptime!(UNITS as usize)) {
        let mut dropped = 0.0f32;
        let mut score = 0.0f32;
        if slot < count {
            let kept = dropout_factor(neighbours, mask, root, head, slot, shape);
            let weight = weights[at * k + slot];
            dropped = weight * kept;
            score = weight * (grads[slot] * kept - mean);
            if comptime!(shape.leaky) {
                score *= slope(scores[slot], activation, shape);
            } else {
                score *= activation;
            }
        }
        shares.dropped[at * k + slot] = dropped;
        shares.score[at * k + slot] = score;
        scores[slot] = score;
    }
    sync_cube();
    mix(neighbours, root, &scores, out, start, shape);
}

/// Column `x` of the gradient of a slot.
#[cube]
fn slot_gradient(
    shares: &Shares,
    query: &Array<f32>,
    grad: &Array<f32>,
    roots: usize,
    slot: usize,
    x: usize,
    #[comptime] shape: Shape,
) -> f32 {
    let k = comptime!(shape.k);
    let mut sum = 0.0f32;
    for head in 0..comptime!(shape.heads) {
        let share = head * roots * k + slot;
        let at = (head * roots + slot / k) * comptime!(shape.x) + x;
        sum += shares.dropped[share] * grad[at] + shares.score[share] * query[at];
    }
    sum
}

/// The position of each root's gradient of the encoding of time 0: after `start` other columns, in rows of `stride`. A
/// stride of 0: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Now {
    pub(crate) stride: usize,
    pub(crate) start: usize,
}

/// Contribution of each root to the gradients of `freq` and `phase`, `[R, 2, padded]`, zeros as padding.
#[cube(launch)]
fn time_kernel(
    neighbours: &Neighbourhood,
    query: &Array<f32>,
    grad: &Array<f32>,
    shares: &Shares,
    of_now: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] shape: Shape,
    #[comptime] padded: usize,
    #[comptime] now: Now,
) {
    let roots = neighbours.count.len();
    let root = usize::min(CUBE_POS, roots - 1);
    let count = neighbours.count[root] as usize;
    for column in range_stepped(UNIT_POS as usize, padded, comptime!(UNITS as usize)) {
        let mut freq = 0.0f32;
        let mut phase = 0.0f32;
        if column < comptime!(shape.t) {
            for i in 0..count {
                let slot = root * comptime!(shape.k) + i;
                let x = comptime!(shape.w + shape.e) + column;
                let dt = neighbours.dt[slot];
                let sine = sin(time_argument(dt, &neighbours.freq, &neighbours.phase, column));
                let share = -slot_gradient(shares, query, grad, roots, slot, x, shape) * sine;
                freq += share * dt;
                phase += share;
            }
            if comptime!(now.stride > 0) {
                let asked = of_now[root * comptime!(now.stride) + comptime!(now.start) + column];
                phase -= asked * sin(neighbours.phase[column]);
            }
        }
        out[root * 2 * padded + column] = freq;
        out[(root * 2 + 1) * padded + column] = phase;
    }
}

/// The positions of the gradients of the roots' own rows, which are added: in rows of `first`, and after `start` other
/// columns in rows of `second`. A stride of 0: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Own {
    pub(crate) first: usize,
    pub(crate) second: usize,
    pub(crate) start: usize,
}

/// The names of each row of `hidden`: the roots themselves come first, the slots from `slots` on.
#[derive(CubeType, CubeLaunch)]
struct Names {
    starts: Array<u32>,
    names: Array<u32>,
    slots: u32,
    /// Gradients of the roots' own rows, if wanted.
    first: Array<f32>,
    second: Array<f32>,
}

/// The gradient of a root's own row.
#[cube]
fn own_gradient(names: &Names, root: usize, column: usize, #[comptime] own: Own) -> f32 {
    let mut sum = 0.0f32;
    if comptime!(own.first > 0) {
        sum += names.first[root * comptime!(own.first) + column];
    }
    if comptime!(own.second > 0) {
        sum += names.second[root * comptime!(own.second) + comptime!(own.start) + column];
    }
    sum
}

/// Sums, for every row of `hidden`, the gradients of its names. A cube handles one row.
#[cube(launch)]
#[allow(clippy::collapsible_if, reason = "the outer condition is the compiler's, the inner one the device's")]
fn hidden_kernel(
    names: &Names,
    query: &Array<f32>,
    grad: &Array<f32>,
    shares: &Shares,
    out: &mut Array<f32>,
    roots: u32,
    #[comptime] shape: Shape,
    #[comptime] own: Own,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * ROWS) as usize));
    let row = usize::min(CUBE_POS, names.starts.len() - 2);
    let start = names.starts[row];
    let end = names.starts[row + 1];
    let w = comptime!(shape.w);
    for block in 0..comptime!(shape.w.div_ceil(COLUMNS as usize)) {
        let column = block * COLUMNS as usize + UNIT_POS_X as usize;
        let mut sum = 0.0f32;
        if column < w {
            for at in range_stepped(start + UNIT_POS_Y, end, ROWS) {
                let name = names.names[at as usize];
                if name >= names.slots {
                    sum += slot_gradient(
                        shares,
                        query,
                        grad,
                        roots as usize,
                        (name - names.slots) as usize,
                        column,
                        shape,
                    );
                } else if comptime!(own.first > 0) {
                    if name < roots {
                        sum += own_gradient(names, name as usize, column, own);
                    }
                }
            }
        }
        let sum = sum_unit_rows(sum, &mut shared);
        if UNIT_POS_Y == 0 && column < w {
            out[row * w + column] = sum;
        }
    }
}

/// Gradients of `hidden`, `query`, `freq` and `phase`, from the saved weights and plan of the forward pass.
pub(crate) fn backward<R: CubeRuntime>(
    plan: &AttentionPlan,
    inputs: &[CubeTensor<R>; 4],
    kept: &Saved<R>,
    grad: &CubeTensor<R>,
) -> [CubeTensor<R>; 4] {
    let device = Device::of(grad);
    let shape = Shape::new(plan, inputs);
    let constants = Constants::of(plan);
    let (n, roots) = (inputs[0].shape()[0], inputs[1].shape()[1]);
    if shape.heads * roots * shape.k == 0 {
        return inputs.each_ref().map(zeros);
    }
    let shared = slot_gradients(&device, &constants, &shape, &kept.sent, inputs, &kept.weights, grad);
    let shares = device.empty(roots * 2 * padded(shape.t));
    time_gradient_partials(&device, &shape, &kept.sent, inputs, &shared, None, &shares);
    let times = sum_time_partials(&device, &shares, if shape.t > 0 { roots } else { 0 }, shape.t);
    let hidden = hidden_gradient(&device, &shape, &kept.sent, inputs, &shared, None);
    debug_assert_eq!(hidden.shape()[0], n, "rows of hidden");
    let [freq, phase] = times.map(|sum| device.tensor(&sum, [shape.t]));
    [hidden, device.tensor(&shared.query, [shape.heads, roots, shape.x]), freq, phase]
}

/// The arrays from which the gradients of neighbours are computed.
pub(crate) struct SlotGradients<R: CubeRuntime> {
    dropped: DeviceBuffer<R>,
    score: DeviceBuffer<R>,
    /// `[H, R, X]` gradient of the output.
    grad: DeviceBuffer<R>,
    /// `[H, R, X]` gradient of the query.
    pub(crate) query: DeviceBuffer<R>,
}

impl<R: CubeRuntime> SlotGradients<R> {
    fn shares(&self) -> SharesLaunch<R> {
        SharesLaunch::new(self.dropped.arg(), self.score.arg())
    }
}

/// The gradient of the query, and the arrays of the other gradients. There must be slots.
pub(crate) fn slot_gradients<R: CubeRuntime>(
    device: &Device<R>,
    constants: &Constants,
    shape: &Shape,
    sent: &NeighbourBuffers<R>,
    inputs: &[CubeTensor<R>; 4],
    weights: &CubeTensor<R>,
    grad: &CubeTensor<R>,
) -> SlotGradients<R> {
    let (Shape { heads, k, x, .. }, roots) = (*shape, inputs[1].shape()[1]);
    let (spans, weights) = (Inputs::new(device, inputs), device.buffer(weights));
    let [dropped, score] = [(); 2].map(|()| device.empty(heads * roots * k));
    let shared = SlotGradients { dropped, score, grad: device.buffer(grad), query: device.empty(heads * roots * x) };
    let (count, dim) = tasks(shape, roots);
    query_kernel::launch::<R>(
        &device.client,
        count,
        dim,
        spans.neighbourhood(sent),
        spans.query.arg(),
        shared.grad.arg(),
        constants.mask(),
        constants.activation(),
        weights.arg(),
        shared.shares(),
        shared.query.arg(),
        *shape,
    );
    shared
}

/// Writes the contribution of each root to the gradients of `freq` and `phase`, `[R, 2, padded]`, to `out`: from its
/// slots and, if used, from the encoding of time 0 in its query.
pub(crate) fn time_gradient_partials<R: CubeRuntime>(
    device: &Device<R>,
    shape: &Shape,
    sent: &NeighbourBuffers<R>,
    inputs: &[CubeTensor<R>; 4],
    shared: &SlotGradients<R>,
    now: Option<(&DeviceBuffer<R>, Now)>,
    out: &DeviceBuffer<R>,
) {
    if shape.t == 0 {
        return;
    }
    let spans = Inputs::new(device, inputs);
    let (of_now, now) = now.unwrap_or((&shared.grad, Now::default()));
    time_kernel::launch::<R>(
        &device.client,
        cubes(inputs[1].shape()[1]),
        CubeDim::new_1d(UNITS),
        spans.neighbourhood(sent),
        spans.query.arg(),
        shared.grad.arg(),
        shared.shares(),
        of_now.arg(),
        out.arg(),
        *shape,
        padded(shape.t),
        now,
    );
}

/// The gradient of `hidden`; the gradients of the roots' own rows are added if there are any.
pub(crate) fn hidden_gradient<R: CubeRuntime>(
    device: &Device<R>,
    shape: &Shape,
    sent: &NeighbourBuffers<R>,
    inputs: &[CubeTensor<R>; 4],
    shared: &SlotGradients<R>,
    own: Option<([&DeviceBuffer<R>; 2], Own)>,
) -> CubeTensor<R> {
    let (n, roots) = (inputs[0].shape()[0], inputs[1].shape()[1]);
    let (hidden, rows) = device.matrix(n, shape.w);
    if rows.len() > 0 {
        let ([starts, names], first) = (&sent.groups, sent.first_slot as u32);
        let (of_own, own) = own.unwrap_or(([&shared.grad; 2], Own::default()));
        hidden_kernel::launch::<R>(
            &device.client,
            cubes(n),
            CubeDim::new_2d(COLUMNS, ROWS),
            NamesLaunch::new(starts.arg(), names.arg(), first, of_own[0].arg(), of_own[1].arg()),
            device.buffer(&inputs[1]).arg(),
            shared.grad.arg(),
            shared.shares(),
            rows.arg(),
            roots as u32,
            *shape,
            own,
        );
    }
    hidden
}
