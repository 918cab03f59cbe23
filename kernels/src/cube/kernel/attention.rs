//! Temporal attention: a cube for each root and head, which reads every neighbour in place.
use crate::cube::array::dropout::{Mask, MaskLaunch, factor};
use crate::cube::array::math::{cos, time_argument};
use crate::cube::launch::buffer::{Device, DeviceBuffer, cubes, zeros};
use crate::cube::launch::plans::{NONE, NeighbourBuffers};
use crate::{AttentionPlan, Dropout, ScoreActivation};
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube.
pub(crate) const UNITS: u32 = 64;
/// Slots whose scores are summed at once.
const TILE: usize = 16;

/// Constants at the compilation of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) heads: usize,
    pub(crate) k: usize,
    /// Columns of `hidden`.
    pub(crate) w: usize,
    /// Columns of edge features.
    pub(crate) e: usize,
    /// Columns of the time encoding.
    pub(crate) t: usize,
    /// Width of a neighbour: the columns of all these, a 1, and zeros as padding.
    pub(crate) x: usize,
    /// Whether negative scores have a slope of their own.
    pub(crate) leaky: bool,
    pub(crate) dropout: bool,
    /// Whether a centre without neighbours has one of zeros: no row, and no event.
    pub(crate) pads: bool,
}

impl Shape {
    /// The shape of `plan`, which fits `inputs`.
    pub(crate) fn new<R: CubeRuntime>(plan: &AttentionPlan, inputs: &[CubeTensor<R>; 4]) -> Self {
        plan.neighbours.check();
        assert_eq!(inputs[1].shape()[1], plan.neighbours.roots, "roots of query");
        let shape = Self::of(plan.neighbours.k, plan.edge_width(), &Constants::of(plan), inputs);
        assert_eq!(shape.x, shape.w + shape.e + shape.t + 1, "width of query");
        shape
    }

    /// That of `k` neighbours with `e` columns of edge features.
    pub(crate) fn of<R: CubeRuntime>(k: usize, e: usize, constants: &Constants, inputs: &[CubeTensor<R>; 4]) -> Self {
        let [hidden, query, freq, phase] = inputs.each_ref().map(TensorMetadata::shape);
        let leaky = matches!(constants.activation, ScoreActivation::LeakyRelu(_));
        let shape = Self {
            heads: query[0],
            k,
            w: hidden[1],
            e,
            t: freq[0],
            x: query[2],
            leaky,
            dropout: constants.dropout.is_some(),
            pads: false,
        };
        assert!(query[2] > shape.w + e + shape.t, "a query {} wide for {shape:?}", query[2]);
        assert_eq!(phase[0], shape.t, "width of phase");
        shape
    }

    /// Slots whose scores are summed at once.
    pub(crate) fn tile(&self) -> usize {
        self.k.min(TILE)
    }
}

/// The arrays from which neighbours are read.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Neighbourhood {
    hidden: Array<f32>,
    pub(crate) count: Array<u32>,
    row: Array<u32>,
    pub(crate) dt: Array<f32>,
    feature: Array<u32>,
    table: Array<f32>,
    pub(crate) freq: Array<f32>,
    pub(crate) phase: Array<f32>,
}

/// Column `x` of the neighbour in a slot.
#[allow(clippy::collapsible_if, reason = "the outer condition is the compiler's, the inner one the device's")]
#[cube]
fn element(neighbours: &Neighbourhood, slot: usize, x: usize, #[comptime] shape: Shape) -> f32 {
    let w = comptime!(shape.w);
    let e = comptime!(shape.e);
    let t = comptime!(shape.t);
    let mut value = select(x == w + e + t, 1.0f32, 0.0f32);
    if x < w {
        let row = neighbours.row[slot];
        if comptime!(shape.pads) {
            if row != NONE {
                value = neighbours.hidden[row as usize * w + x];
            }
        } else {
            value = neighbours.hidden[row as usize * w + x];
        }
    } else if x < w + e {
        if comptime!(shape.e > 0) {
            let feature = neighbours.feature[slot];
            if comptime!(shape.pads) {
                if feature != NONE {
                    value = neighbours.table[feature as usize * e + x - w];
                }
            } else {
                value = neighbours.table[feature as usize * e + x - w];
            }
        }
    } else if comptime!(shape.t > 0) && x < w + e + t {
        value = cos(time_argument(neighbours.dt[slot], &neighbours.freq, &neighbours.phase, x - w - e));
    }
    value
}

/// `dots[k]`, the product of the vector at `start` with neighbour `k` of `root`, for its `count` valid slots.
///
/// Every unit of the cube must reach this call. It may read the result after [`sync_cube`].
#[cube]
pub(crate) fn dots(
    neighbours: &Neighbourhood,
    root: usize,
    vectors: &Array<f32>,
    start: usize,
    dots: &mut SharedMemory<f32>,
    #[comptime] shape: Shape,
) {
    let tile = comptime!(shape.tile());
    let mut partial = SharedMemory::<f32>::new(comptime!(shape.tile() * UNITS as usize));
    let count = neighbours.count[root] as usize;
    let unit = UNIT_POS as usize;
    for block in 0..comptime!(shape.k.div_ceil(shape.tile())) {
        for i in 0..tile {
            let slot = block * tile + i;
            let mut sum = 0.0f32;
            if slot < count {
                for x in range_stepped(unit, comptime!(shape.x), comptime!(UNITS as usize)) {
                    sum += vectors[start + x] * element(neighbours, root * comptime!(shape.k) + slot, x, shape);
                }
            }
            partial[i * comptime!(UNITS as usize) + unit] = sum;
        }
        // halves are added until one number a slot is left
        #[unroll]
        for halving in 0..comptime!(UNITS.ilog2()) {
            let half = comptime!((UNITS >> (halving + 1)) as usize);
            sync_cube();
            for item in range_stepped(unit, tile * half, comptime!(UNITS as usize)) {
                let at = item / half * comptime!(UNITS as usize) + item % half;
                partial[at] = partial[at] + partial[at + half];
            }
        }
        sync_cube();
        if unit < tile && block * tile + unit < comptime!(shape.k) {
            dots[block * tile + unit] = partial[unit * comptime!(UNITS as usize)];
        }
        sync_cube();
    }
}

/// `out[start..]`, the sum over the valid slots of `root` of `weights[k]` times neighbour `k`.
#[cube]
pub(crate) fn mix(
    neighbours: &Neighbourhood,
    root: usize,
    weights: &SharedMemory<f32>,
    out: &mut Array<f32>,
    start: usize,
    #[comptime] shape: Shape,
) {
    let count = neighbours.count[root] as usize;
    for x in range_stepped(UNIT_POS as usize, comptime!(shape.x), comptime!(UNITS as usize)) {
        let mut sum = 0.0f32;
        for slot in 0..count {
            sum += weights[slot] * element(neighbours, root * comptime!(shape.k) + slot, x, shape);
        }
        out[start + x] = sum;
    }
}

/// The slope of the activation at a score: the factor of the activated score.
#[cube]
pub(crate) fn slope(score: f32, activation: f32, #[comptime] shape: Shape) -> f32 {
    if comptime!(shape.leaky) { select(score > 0.0f32, 1.0f32, activation) } else { activation }
}

/// The dropout factor of a slot's weight. A neighbour of zeros is never dropped.
#[cube]
pub(crate) fn dropout_factor(
    neighbours: &Neighbourhood,
    mask: &Mask,
    root: usize,
    head: usize,
    slot: usize,
    #[comptime] shape: Shape,
) -> f32 {
    let mut kept = f32::new(1.0);
    if comptime!(shape.dropout) {
        kept = factor(mask, ((root * comptime!(shape.heads) + head) * comptime!(shape.k) + slot) as u32);
        if comptime!(shape.pads) {
            let alone = neighbours.feature[root * comptime!(shape.k)] == NONE;
            kept = select(alone, 1.0f32, kept);
        }
    }
    kept
}

/// The task of a cube: one head of one root.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Task {
    /// Of the pair of head and root, heads slowest.
    pub(crate) at: usize,
    pub(crate) head: usize,
    pub(crate) root: usize,
}

/// The task of this cube; there may be more cubes than tasks, which then do the last one as well.
#[cube]
pub(crate) fn task(neighbours: &Neighbourhood, #[comptime] shape: Shape) -> Task {
    let roots = neighbours.count.len();
    let at = usize::min(CUBE_POS, comptime!(shape.heads) * roots - 1);
    Task { at, head: at / roots, root: at % roots }
}

/// A cube for every head of every root.
pub(crate) fn tasks(shape: &Shape, roots: usize) -> (CubeCount, CubeDim) {
    (cubes(shape.heads * roots), CubeDim::new_1d(UNITS))
}

/// `out` `[H, R, X]` and `weights` `[H, R, K]`.
#[cube(launch)]
fn forward_kernel(
    neighbours: &Neighbourhood,
    query: &Array<f32>,
    mask: &Mask,
    activation: f32,
    weights: &mut Array<f32>,
    out: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let task = task(neighbours, shape);
    let (at, head, root) = (task.at, task.head, task.root);
    let k = comptime!(shape.k);
    let mut scores = SharedMemory::<f32>::new(k);
    let mut dropped = SharedMemory::<f32>::new(k);
    dots(neighbours, root, query, at * comptime!(shape.x), &mut scores, shape);

    let count = neighbours.count[root] as usize;
    let mut highest = f32::new(-3.0e38);
    for slot in 0..count {
        let score = scores[slot];
        highest = f32::max(highest, score * slope(score, activation, shape));
    }
    let mut sum = 0.0f32;
    for slot in 0..count {
        let score = scores[slot];
        sum += (score * slope(score, activation, shape) - highest).exp();
    }
    for slot in range_stepped(UNIT_POS as usize, k, comptime!(UNITS as usize)) {
        let mut weight = 0.0f32;
        if slot < count {
            let score = scores[slot];
            weight = (score * slope(score, activation, shape) - highest).exp() / sum;
            dropped[slot] = weight * dropout_factor(neighbours, mask, root, head, slot, shape);
        }
        weights[at * k + slot] = weight;
    }
    sync_cube();
    mix(neighbours, root, &dropped, out, at * comptime!(shape.x), shape);
}

/// Inputs of an attention on a device.
pub(crate) struct Inputs<R: CubeRuntime> {
    pub(crate) hidden: DeviceBuffer<R>,
    pub(crate) query: DeviceBuffer<R>,
    pub(crate) freq: DeviceBuffer<R>,
    pub(crate) phase: DeviceBuffer<R>,
}

impl<R: CubeRuntime> Inputs<R> {
    pub(crate) fn new(device: &Device<R>, inputs: &[CubeTensor<R>; 4]) -> Self {
        let [hidden, query, freq, phase] = inputs.each_ref().map(|tensor| device.buffer(tensor));
        Self { hidden, query, freq, phase }
    }

    pub(crate) fn neighbourhood(&self, sent: &NeighbourBuffers<R>) -> NeighbourhoodLaunch<R> {
        let NeighbourBuffers { count, row, dt, feature, table, .. } = sent;
        let Self { hidden, freq, phase, .. } = self;
        NeighbourhoodLaunch::new(
            hidden.arg(),
            count.arg(),
            row.arg(),
            dt.arg(),
            feature.arg(),
            table.arg(),
            freq.arg(),
            phase.arg(),
        )
    }
}

/// Constants of scores and weights.
#[derive(Clone, Copy)]
pub(crate) struct Constants {
    pub(crate) activation: ScoreActivation,
    pub(crate) dropout: Option<Dropout>,
}

impl Constants {
    pub(crate) fn of(plan: &AttentionPlan) -> Self {
        Self { activation: plan.activation, dropout: plan.dropout }
    }

    /// The one number of the activation.
    pub(crate) fn activation(&self) -> f32 {
        match self.activation {
            ScoreActivation::Scaled(scale) => scale,
            ScoreActivation::LeakyRelu(slope) => slope,
        }
    }

    pub(crate) fn mask<R: CubeRuntime>(&self) -> MaskLaunch<R> {
        let (rate, seed) = self.dropout.map_or((0.0, 0), |dropout| (dropout.rate, dropout.mixed_seed()));
        MaskLaunch::new(rate, (seed >> 32) as u32, seed as u32)
    }
}

/// The saved arrays for the backward pass.
#[derive(Clone, Debug)]
pub struct Saved<R: CubeRuntime> {
    pub(crate) sent: NeighbourBuffers<R>,
    /// `[H, R, K]` attention weights before dropout.
    pub(crate) weights: CubeTensor<R>,
}

/// Output `[H, R, X]`, and the saved arrays for the backward pass.
pub(crate) fn forward<R: CubeRuntime>(plan: &AttentionPlan, inputs: &[CubeTensor<R>; 4]) -> (CubeTensor<R>, Saved<R>) {
    let device = Device::of(&inputs[0]);
    let shape = Shape::new(plan, inputs);
    let sent = NeighbourBuffers::send(&device, plan, inputs[0].shape()[0]);
    let [output, weights] = attend(&device, &Constants::of(plan), &shape, &sent, inputs);
    (output, Saved { sent, weights })
}

/// Output `[H, R, X]` and weights `[H, R, K]` of neighbours that are on the device.
pub(crate) fn attend<R: CubeRuntime>(
    device: &Device<R>,
    constants: &Constants,
    shape: &Shape,
    sent: &NeighbourBuffers<R>,
    inputs: &[CubeTensor<R>; 4],
) -> [CubeTensor<R>; 2] {
    let Shape { heads, k, .. } = *shape;
    let (roots, x) = (inputs[1].shape()[1], shape.x);
    if heads * roots * k == 0 {
        return [zeros(&inputs[1]), device.tensor(&device.empty(0), [heads, roots, k])];
    }
    let (out, weights) = (device.empty(heads * roots * x), device.empty(heads * roots * k));
    let (spans, (count, dim)) = (Inputs::new(device, inputs), tasks(shape, roots));
    forward_kernel::launch::<R>(
        &device.client,
        count,
        dim,
        spans.neighbourhood(sent),
        spans.query.arg(),
        constants.mask(),
        constants.activation(),
        weights.arg(),
        out.arg(),
        *shape,
    );
    [device.tensor(&out, [heads, roots, x]), device.tensor(&weights, [heads, roots, k])]
}
