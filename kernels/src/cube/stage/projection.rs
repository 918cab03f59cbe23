//! Time projections: rows of the roots scaled by their idle times.
use crate::Dropout;
use crate::cube::array::dropout::{Mask, MaskLaunch, factor};
use crate::cube::array::layout::{Block, WeightLayout};
use crate::cube::array::matrix::Matrix;
use crate::cube::array::weights::{Weight, Weights};
use crate::cube::history::past::Hop;
use crate::cube::launch::buffer::{DeviceBuffer, UNITS, padded, units};
use crate::cube::launch::plans::NONE;
use crate::cube::launch::reduce::sum_rows_into;
use crate::cube::stage::centres::at_centres_backward;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Normalisation of idle times, `(ticks - shift) / scale`: one, or one for each of two parts of a row.
#[derive(Clone, Copy, Debug)]
pub struct IdleUnits {
    /// Shift and scale of the first part.
    pub first: [f32; 2],
    /// Shift and scale of the second part, if there is one.
    pub second: Option<[f32; 2]>,
}

/// Constants at the compilation of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    /// Columns of the table.
    width: usize,
    /// Parts of a row.
    parts: usize,
    bias: bool,
    drops: bool,
    /// Numbers of a row of gradients.
    stride: usize,
    /// From one row of weights to the next.
    padded: usize,
}

/// The rows of the roots, and their idle times.
#[derive(CubeType, CubeLaunch)]
struct Roots {
    table: Array<f32>,
    rows: Array<u32>,
    idle: Array<f32>,
    /// Drift, then bias.
    weights: Array<f32>,
    shift_of_first: f32,
    scale_of_first: f32,
    shift_of_second: f32,
    scale_of_second: f32,
}

/// The idle time of a root, in the unit of a part.
#[cube]
fn idle(roots: &Roots, root: usize, part: usize) -> f32 {
    let shift = select(part == 0, roots.shift_of_first, roots.shift_of_second);
    let scale = select(part == 0, roots.scale_of_first, roots.scale_of_second);
    (roots.idle[root] - shift) / scale
}

/// The factor of a number in a root's row.
#[cube]
fn scaled(roots: &Roots, root: usize, part: usize, column: usize, #[comptime] shape: Shape) -> f32 {
    let mut by = idle(roots, root, part) * roots.weights[column];
    if comptime!(shape.bias) {
        by += roots.weights[comptime!(shape.padded) + column];
    }
    by + 1.0f32
}

/// A number of a root's row.
#[cube]
fn number(roots: &Roots, root: usize, column: usize, #[comptime] shape: Shape) -> f32 {
    let row = roots.rows[root];
    let mut value = 0.0f32;
    if row != NONE {
        value = roots.table[row as usize * comptime!(shape.width) + column];
    }
    value
}

#[cube(launch)]
fn project_kernel(roots: &Roots, mask: &Mask, out: &mut Array<f32>, #[comptime] shape: Shape) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let width = comptime!(shape.width);
        let root = i / comptime!(shape.width * shape.parts);
        let part = i / width % comptime!(shape.parts);
        let column = i % width;
        let mut value = number(roots, root, column, shape) * scaled(roots, root, part, column, shape);
        if comptime!(shape.drops) {
            value *= factor(mask, i as u32);
        }
        out[i] = value;
    }
}

/// The gradient of the roots' rows, `[C, width]`, and the contribution of each to those of drift and bias, `[C, 2,
/// padded]`, zeros as padding.
#[cube(launch)]
fn backward_kernel(
    roots: &Roots,
    mask: &Mask,
    grad: &Array<f32>,
    of_rows: &mut Array<f32>,
    shares: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let padded = comptime!(shape.padded);
    let root = ABSOLUTE_POS / padded;
    let column = ABSOLUTE_POS % padded;
    if root < roots.rows.len() {
        let width = comptime!(shape.width);
        let mut of_drift = 0.0f32;
        let mut of_bias = 0.0f32;
        if column < width {
            let own = number(roots, root, column, shape);
            let mut sum = 0.0f32;
            for part in 0..comptime!(shape.parts) {
                let at = part * width + column;
                let mut grad = grad[root * comptime!(shape.stride) + at];
                if comptime!(shape.drops) {
                    grad *= factor(mask, (root * comptime!(shape.width * shape.parts) + at) as u32);
                }
                sum += grad * scaled(roots, root, part, column, shape);
                of_drift += idle(roots, root, part) * own * grad;
                of_bias += own * grad;
            }
            of_rows[root * width + column] = sum;
        }
        shares[root * 2 * padded + column] = of_drift;
        if comptime!(!shape.bias) {
            of_bias = 0.0f32;
        }
        shares[(root * 2 + 1) * padded + column] = of_bias;
    }
}

/// The positions of a time projection's drift and bias, `[D]` each.
#[derive(Clone, Copy, Debug)]
pub struct ProjectionBlock {
    all: Block,
    width: usize,
    bias: bool,
}

impl ProjectionBlock {
    /// Allocates drift and bias (if there is one) of rows of `width` columns, at the given offsets among the weights'
    /// numbers.
    pub fn allocate(layout: &mut WeightLayout, width: usize, (drift, bias): (usize, Option<usize>)) -> Self {
        let all = layout.block(2, padded(width));
        layout.assign(all, [0, 0], [1, width], drift);
        bias.into_iter().for_each(|bias| layout.assign(all, [1, 0], [1, width], bias));
        Self { all, width, bias: bias.is_some() }
    }
}

/// A time projection: `(1 + dt drift [+ bias])` times the rows of the roots.
#[derive(Clone, Debug)]
pub struct Projection<R: CubeRuntime> {
    weights: Weight<R>,
    width: usize,
    bias: bool,
    units: IdleUnits,
    dropout: Option<Dropout>,
}

impl<R: CubeRuntime> Projection<R> {
    /// The projection at `block`; `dropout` applies to its numbers.
    pub fn at(weights: &Weights<R>, block: ProjectionBlock, units: IdleUnits, dropout: Option<Dropout>) -> Self {
        let ProjectionBlock { all, width, bias } = block;
        Self { weights: weights.at(all), width, bias, units, dropout }
    }

    fn shape(&self, stride: usize) -> Shape {
        let parts = 1 + usize::from(self.units.second.is_some());
        let drops = self.dropout.is_some();
        Shape { width: self.width, parts, bias: self.bias, drops, stride, padded: padded(self.width) }
    }

    fn mask(&self) -> MaskLaunch<R> {
        let (rate, seed) = self.dropout.map_or((0.0, 0), |dropout| (dropout.rate, dropout.mixed_seed()));
        MaskLaunch::new(rate, (seed >> 32) as u32, seed as u32)
    }

    fn roots(&self, hop: &Hop<R>, idle: &DeviceBuffer<R>, table: &Matrix<R>) -> RootsLaunch<R> {
        let ([shift, scale], other) = (self.units.first, self.units.second.unwrap_or(self.units.first));
        RootsLaunch::new(
            table.buffer.arg(),
            hop.centres.arg(),
            idle.arg(),
            self.weights.value.arg(),
            shift,
            scale,
            other[0],
            other[1],
        )
    }

    /// The projected rows of the roots, `[C, parts * width]`, from the table below.
    ///
    /// # Panics
    /// If the table does not fit, or the past has no idle times.
    pub fn forward(&self, hop: &Hop<R>, table: &Matrix<R>) -> Matrix<R> {
        assert_eq!([table.rows(), table.columns()], [hop.below, self.width], "the table below");
        let (shape, dim) = (self.shape(0), CubeDim::new_1d(UNITS));
        let out = Matrix::new(&hop.device, hop.len(), shape.parts * self.width);
        if out.buffer.len() > 0 {
            let idle = hop.idle.as_ref().expect("a past with idle times");
            let (count, roots) = (units(out.buffer.len()), self.roots(hop, idle, table));
            project_kernel::launch::<R>(&hop.device.client, count, dim, roots, self.mask(), out.buffer.arg(), shape);
        }
        out
    }

    /// Writes the gradients of drift and bias. Returns that of the table, given that of the projected rows: the first
    /// columns of `grad`.
    pub fn backward(&self, hop: &Hop<R>, table: &Matrix<R>, grad: &Matrix<R>) -> Matrix<R> {
        let (shape, dim, device) = (self.shape(grad.columns()), CubeDim::new_1d(UNITS), &hop.device);
        let of_rows = Matrix::new(device, hop.len(), self.width);
        let shares = device.empty(hop.len() * 2 * shape.padded);
        if of_rows.buffer.len() > 0 {
            let idle = hop.idle.as_ref().expect("a past with idle times");
            let (count, roots) = (units(hop.len() * shape.padded), self.roots(hop, idle, table));
            let (grad, out) = (grad.buffer.arg(), of_rows.buffer.arg());
            backward_kernel::launch::<R>(
                &device.client,
                count,
                dim,
                roots,
                self.mask(),
                grad,
                out,
                shares.arg(),
                shape,
            );
        }
        sum_rows_into(device, &shares, hop.len(), 2 * shape.padded, &self.weights.gradient);
        at_centres_backward(hop, &of_rows, 0, self.width)
    }
}
