//! Rows in the form linear maps read: their parts, a 1 for the bias, and zeros up to a multiple of the vector width.
use crate::cube::array::layout::with_one;
use crate::cube::array::math::{cos, rectify};
use crate::cube::array::matrix::Matrix;
use crate::cube::history::past::Hop;
use crate::cube::kernel::time::TimeEncoding;
use crate::cube::launch::buffer::{UNITS, units};
use crate::cube::launch::plans::NONE;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Widths of a row: of its first part, of its second part, and of the whole row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Widths {
    first: usize,
    second: usize,
    /// Stride of the second part, which may have more columns than are read.
    stride: usize,
    all: usize,
}

impl Widths {
    fn new(first: usize, second: usize, stride: usize) -> Self {
        Self { first, second, stride, all: with_one(first + second) }
    }
}

/// `[table[row] | cos(phase) | 1 | 0]`, with 0 as the first part if there is no row.
#[cube(launch)]
fn query_rows_kernel(
    table: &Array<f32>,
    rows: &Array<u32>,
    phase: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] widths: Widths,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let w = comptime!(widths.first);
        let t = comptime!(widths.second);
        let row = rows[i / comptime!(widths.all)];
        let column = i % comptime!(widths.all);
        let mut value = select(column == w + t, 1.0f32, 0.0f32);
        if column < w {
            if row != NONE {
                value = table[row as usize * w + column];
            }
        } else if column < w + t {
            value = cos(phase[column - w]);
        }
        out[i] = value;
    }
}

/// `[first | second | 1 | 0]`, with 0 as the first part if a count is 0.
#[cube(launch)]
fn merge_kernel(
    counts: &Array<u32>,
    first: &Array<f32>,
    second: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] widths: Widths,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let a = comptime!(widths.first);
        let b = comptime!(widths.second);
        let row = i / comptime!(widths.all);
        let column = i % comptime!(widths.all);
        let mut value = select(column == a + b, 1.0f32, 0.0f32);
        if column < a {
            value = select(counts[row] == 0, 0.0f32, first[row * a + column]);
        } else if column < a + b {
            value = second[row * comptime!(widths.stride) + column - a];
        }
        out[i] = value;
    }
}

/// The first columns of `grad`, 0 if a count is 0.
#[cube(launch)]
fn unmerge_kernel(counts: &Array<u32>, grad: &Array<f32>, out: &mut Array<f32>, #[comptime] widths: Widths) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let (row, column) = (i / comptime!(widths.first), i % comptime!(widths.first));
        out[i] = select(counts[row] == 0, 0.0f32, grad[row * comptime!(widths.all) + column]);
    }
}

/// `[max(x, 0) | 1 | 0]`, with the 1 if wanted.
#[cube(launch)]
fn rectify_kernel(x: &Array<f32>, out: &mut Array<f32>, one: f32, #[comptime] widths: Widths) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let width = comptime!(widths.first);
        let row = i / comptime!(widths.all);
        let column = i % comptime!(widths.all);
        let mut value = select(column == width, one, 0.0f32);
        if column < width {
            value = rectify(x[row * width + column]);
        }
        out[i] = value;
    }
}

/// The first columns of `grad`, 0 where the output of the ReLU is 0.
#[cube(launch)]
fn rectify_backward_kernel(
    grad: &Array<f32>,
    rectified: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] widths: Widths,
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let at = i / comptime!(widths.first) * comptime!(widths.all) + i % comptime!(widths.first);
        out[i] = select(rectified[at] > 0.0f32, grad[at], 0.0f32);
    }
}

/// The hop's centres as rows of `table`, followed by the encoding of time 0 if `now` is given: `[C, ..]`.
///
/// # Panics
/// If `table` is not the table below.
pub fn query_rows<R: CubeRuntime>(hop: &Hop<R>, table: &Matrix<R>, now: Option<&TimeEncoding<R>>) -> Matrix<R> {
    assert_eq!(table.rows(), hop.below, "rows of the table below");
    let widths = Widths::new(table.columns(), now.map_or(0, TimeEncoding::width), 0);
    let out = Matrix::new(&hop.device, hop.len(), widths.all);
    if out.buffer.len() > 0 {
        let (count, dim) = (units(out.buffer.len()), CubeDim::new_1d(UNITS));
        let phase = now.map_or_else(|| table.buffer.clone(), TimeEncoding::phase);
        query_rows_kernel::launch::<R>(
            &hop.device.client,
            count,
            dim,
            table.buffer.arg(),
            hop.centres.arg(),
            phase.arg(),
            out.buffer.arg(),
            widths,
        );
    }
    out
}

/// `[projected | centres]` `[C, ..]`, with zeros instead of `projected` `[C, O]` if a centre has no neighbours. The
/// centres are the first `width` columns of the result of [`query_rows`].
pub fn merge<R: CubeRuntime>(hop: &Hop<R>, projected: &Matrix<R>, query_rows: &Matrix<R>, width: usize) -> Matrix<R> {
    let widths = Widths::new(projected.columns(), width, query_rows.columns());
    let out = Matrix::new(&hop.device, hop.len(), widths.all);
    if out.buffer.len() > 0 {
        let (count, dim, first, second) =
            (units(out.buffer.len()), CubeDim::new_1d(UNITS), &projected.buffer, &query_rows.buffer);
        let counts = hop.attention.count.arg();
        merge_kernel::launch::<R>(
            &hop.device.client,
            count,
            dim,
            counts,
            first.arg(),
            second.arg(),
            out.buffer.arg(),
            widths,
        );
    }
    out
}

/// The gradient of `projected`, `[C, width]`, given that of the result of [`merge`].
pub fn merge_backward<R: CubeRuntime>(hop: &Hop<R>, grad: &Matrix<R>, width: usize) -> Matrix<R> {
    let out = Matrix::new(&hop.device, hop.len(), width);
    if out.buffer.len() > 0 {
        let widths = Widths { first: width, second: 0, stride: 0, all: grad.columns() };
        let (count, dim, counts) = (units(out.buffer.len()), CubeDim::new_1d(UNITS), hop.attention.count.arg());
        unmerge_kernel::launch::<R>(
            &hop.device.client,
            count,
            dim,
            counts,
            grad.buffer.arg(),
            out.buffer.arg(),
            widths,
        );
    }
    out
}

/// The positive part of `x` `[n, O]`, in the form the next map reads; `biased` says whether that map has a bias.
pub fn relu<R: CubeRuntime>(x: &Matrix<R>, biased: bool) -> Matrix<R> {
    let widths = Widths::new(x.columns(), 0, 0);
    let out = Matrix::new(&x.device, x.rows(), widths.all);
    if out.buffer.len() > 0 {
        let (count, dim) = (units(out.buffer.len()), CubeDim::new_1d(UNITS));
        let one = if biased { 1.0 } else { 0.0 };
        rectify_kernel::launch::<R>(&x.device.client, count, dim, x.buffer.arg(), out.buffer.arg(), one, widths);
    }
    out
}

/// The gradient of `x` `[n, width]`, given that of the result of [`relu`] and the result itself.
pub fn relu_backward<R: CubeRuntime>(grad: &Matrix<R>, rectified: &Matrix<R>, width: usize) -> Matrix<R> {
    let out = Matrix::new(&grad.device, grad.rows(), width);
    if out.buffer.len() > 0 {
        let widths = Widths { first: width, second: 0, stride: 0, all: grad.columns() };
        let (count, dim) = (units(out.buffer.len()), CubeDim::new_1d(UNITS));
        let (grad, rectified) = (&grad.buffer, &rectified.buffer);
        rectify_backward_kernel::launch::<R>(
            &out.device.client,
            count,
            dim,
            grad.arg(),
            rectified.arg(),
            out.buffer.arg(),
            widths,
        );
    }
    out
}
