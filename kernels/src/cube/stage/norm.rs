//! Layer norm of sums of rows, as an attention layer's residual connection has it.
use crate::Dropout;
use crate::cube::array::dropout::{Mask, MaskLaunch, factor};
use crate::cube::array::layout::{Block, WeightLayout, with_one};
use crate::cube::array::matrix::Matrix;
use crate::cube::array::weights::{Weight, Weights, cube_sum};
use crate::cube::launch::buffer::{DeviceBuffer, UNITS, cubes, padded};
use crate::cube::launch::reduce::sum_rows_into;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Added to variances, as PyTorch does.
const EPSILON: f32 = 1e-5;

/// Constants at the compilation of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    /// Columns that are normalised.
    width: usize,
    /// Numbers of a row of what is added.
    stride: usize,
    /// Columns after the normalised ones, and the stride of their source.
    behind: [usize; 2],
    /// Numbers of a row of the result, or of its gradient.
    all: usize,
    /// Offset from the weight to the bias.
    padded: usize,
    drops: bool,
}

/// The summands of the norm, and the columns after it.
#[derive(CubeType, CubeLaunch)]
struct Rows {
    /// `[n, width]`, the rows with dropout.
    one: Array<f32>,
    other: Array<f32>,
    behind: Array<f32>,
    /// Weight, then bias.
    weights: Array<f32>,
}

/// `[norm(drop(one) + other) | behind | 1 | 0]`, the normalised rows before scale and shift, `[n, width]`, and their
/// rates, `[n]`. A cube handles one row.
#[cube(launch)]
fn norm_kernel(
    rows: &Rows,
    mask: &Mask,
    out: &mut Array<f32>,
    normal: &mut Array<f32>,
    rates: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let row = usize::min(CUBE_POS, rates.len() - 1);
    let width = comptime!(shape.width);
    let unit = UNIT_POS as usize;
    let mut sum = 0.0f32;
    for column in range_stepped(unit, width, comptime!(UNITS as usize)) {
        let at = row * width + column;
        let mut value = rows.one[at];
        if comptime!(shape.drops) {
            value *= factor(mask, at as u32);
        }
        value += rows.other[row * comptime!(shape.stride) + column];
        normal[at] = value;
        sum += value;
    }
    let mean = cube_sum(sum) / comptime!(shape.width as f32);
    sync_cube();
    let mut squares = 0.0f32;
    for column in range_stepped(unit, width, comptime!(UNITS as usize)) {
        let off = normal[row * width + column] - mean;
        squares += off * off;
    }
    let rate = 1.0f32 / (cube_sum(squares) / comptime!(shape.width as f32) + EPSILON).sqrt();
    if unit == 0 {
        rates[row] = rate;
    }
    let all = comptime!(shape.all);
    for column in range_stepped(unit, all, comptime!(UNITS as usize)) {
        let behind = comptime!(shape.behind[0]);
        let stride = comptime!(shape.behind[1]);
        let mut value = select(column == width + behind, 1.0f32, 0.0f32);
        if column < width {
            let scaled = (normal[row * width + column] - mean) * rate;
            normal[row * width + column] = scaled;
            value = scaled * rows.weights[column] + rows.weights[comptime!(shape.padded) + column];
        } else if column < width + behind {
            value = rows.behind[row * stride + column - width];
        }
        out[row * all + column] = value;
    }
}

/// The gradient of the sum, `[n, width]`, that of the rows with dropout, and the contribution of each row to those of
/// weight and bias, `[n, 2, padded]`, zeros as padding. A cube handles one row.
#[cube(launch)]
fn backward_kernel(
    grad: &Array<f32>,
    weights: &Array<f32>,
    normal: &Array<f32>,
    rates: &Array<f32>,
    mask: &Mask,
    of_sum: &mut Array<f32>,
    of_one: &mut Array<f32>,
    shares: &mut Array<f32>,
    #[comptime] shape: Shape,
) {
    let row = usize::min(CUBE_POS, rates.len() - 1);
    let width = comptime!(shape.width);
    let padded = comptime!(shape.padded);
    let unit = UNIT_POS as usize;
    let mut sum = 0.0f32;
    let mut along = 0.0f32;
    for column in range_stepped(unit, padded, comptime!(UNITS as usize)) {
        let mut of_weight = 0.0f32;
        let mut of_bias = 0.0f32;
        if column < width {
            of_bias = grad[row * comptime!(shape.all) + column];
            of_weight = of_bias * normal[row * width + column];
            sum += of_bias * weights[column];
            along += of_weight * weights[column];
        }
        shares[row * 2 * padded + column] = of_weight;
        shares[(row * 2 + 1) * padded + column] = of_bias;
    }
    let mean = cube_sum(sum) / comptime!(shape.width as f32);
    sync_cube();
    let along = cube_sum(along) / comptime!(shape.width as f32);
    for column in range_stepped(unit, width, comptime!(UNITS as usize)) {
        let at = row * width + column;
        let own = grad[row * comptime!(shape.all) + column] * weights[column];
        let value = rates[row] * (own - mean - normal[at] * along);
        of_sum[at] = value;
        if comptime!(shape.drops) {
            of_one[at] = value * factor(mask, at as u32);
        }
    }
}

/// The positions of a norm's weight and bias, `[width]` each.
#[derive(Clone, Copy, Debug)]
pub struct NormBlock {
    all: Block,
    width: usize,
}

impl NormBlock {
    /// Allocates weight and bias of `width` columns, at the offsets `from` among the weights' numbers.
    pub fn allocate(layout: &mut WeightLayout, width: usize, from: [usize; 2]) -> Self {
        let all = layout.block(2, padded(width));
        from.into_iter().enumerate().for_each(|(row, from)| layout.assign(all, [row, 0], [1, width], from));
        Self { all, width }
    }
}

/// Adds rows with dropout to other rows, and applies a layer norm to the sums.
#[derive(Clone, Debug)]
pub struct ResidualNorm<R: CubeRuntime> {
    weights: Weight<R>,
    width: usize,
    dropout: Option<Dropout>,
}

/// Saved arrays of a forward pass.
pub struct SavedNorm<R: CubeRuntime> {
    /// `[n, width]`
    normal: DeviceBuffer<R>,
    /// `[n]`
    rates: DeviceBuffer<R>,
}

/// Gradients of both summands.
pub struct NormGradients<R: CubeRuntime> {
    /// Of the rows with dropout, `[n, width]`.
    pub one: Matrix<R>,
    /// Of the other rows, `[n, width]`.
    pub other: Matrix<R>,
}

impl<R: CubeRuntime> ResidualNorm<R> {
    /// The norm at `block`; `dropout` applies to the first summand.
    pub fn at(weights: &Weights<R>, block: NormBlock, dropout: Option<Dropout>) -> Self {
        Self { weights: weights.at(block.all), width: block.width, dropout }
    }

    fn shape(&self, all: usize) -> Shape {
        let drops = self.dropout.is_some();
        Shape { width: self.width, stride: 0, behind: [0, 0], all, padded: padded(self.width), drops }
    }

    fn mask(&self) -> MaskLaunch<R> {
        let (rate, seed) = self.dropout.map_or((0.0, 0), |dropout| (dropout.rate, dropout.mixed_seed()));
        MaskLaunch::new(rate, (seed >> 32) as u32, seed as u32)
    }

    /// `[norm(drop(one) + other) | behind]` in the form a linear map reads, `[n, ..]`: `one` `[n, width]`, the first
    /// columns of `other`, and the given number of columns of `behind`.
    ///
    /// # Panics
    /// If rows do not fit together.
    pub fn forward(
        &self,
        one: &Matrix<R>,
        other: &Matrix<R>,
        (behind, columns): (&Matrix<R>, usize),
    ) -> (Matrix<R>, SavedNorm<R>) {
        let (device, n, width) = (&one.device, one.rows(), self.width);
        assert_eq!([one.columns(), other.rows(), behind.rows()], [width, n, n], "rows that are added up");
        let all = with_one(width + columns);
        let shape = Shape { stride: other.columns(), behind: [columns, behind.columns()], ..self.shape(all) };
        let out = Matrix::new(device, n, all);
        let [normal, rates] = [n * width, n].map(|len| device.empty(len).part(0, len));
        if n > 0 {
            let rows =
                RowsLaunch::new(one.buffer.arg(), other.buffer.arg(), behind.buffer.arg(), self.weights.value.arg());
            let (count, dim) = (cubes(n), CubeDim::new_1d(UNITS));
            let (to, normal, rates) = (out.buffer.arg(), normal.arg(), rates.arg());
            norm_kernel::launch::<R>(&device.client, count, dim, rows, self.mask(), to, normal, rates, shape);
        }
        (out, SavedNorm { normal, rates })
    }

    /// Writes the gradients of weight and bias. Returns those of the summands, given that of the result: the first
    /// columns of `grad`.
    pub fn backward(&self, kept: &SavedNorm<R>, grad: &Matrix<R>) -> NormGradients<R> {
        let (device, n, shape) = (&grad.device, grad.rows(), self.shape(grad.columns()));
        let other = Matrix::new(device, n, self.width);
        let one = if shape.drops { Matrix::new(device, n, self.width) } else { other.clone() };
        let shares = device.empty(n * 2 * shape.padded);
        if n > 0 {
            let (count, dim) = (cubes(n), CubeDim::new_1d(UNITS));
            let (weights, normal, rates) = (self.weights.value.arg(), kept.normal.arg(), kept.rates.arg());
            backward_kernel::launch::<R>(
                &device.client,
                count,
                dim,
                grad.buffer.arg(),
                weights,
                normal,
                rates,
                self.mask(),
                other.buffer.arg(),
                one.buffer.arg(),
                shares.arg(),
                shape,
            );
        }
        sum_rows_into(device, &shares, n, 2 * shape.padded, &self.weights.gradient);
        NormGradients { one, other }
    }
}
