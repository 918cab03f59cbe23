//! Matrices on a device, put together and taken apart by columns.
use super::span::{Device, Span, UNITS, units};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use std::fmt;

/// Rows of numbers on a device, one after the other. A clone is the same numbers.
#[derive(Clone)]
pub struct Matrix<R: CubeRuntime> {
    pub(super) device: Device<R>,
    pub(super) span: Span<R>,
    rows: usize,
    columns: usize,
}

impl<R: CubeRuntime> fmt::Debug for Matrix<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix [{}, {}]", self.rows, self.columns)
    }
}

/// Columns of a matrix: `columns` of them from `start` on, in rows `stride` apart. A stride of 0 is the same row over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Columns {
    columns: usize,
    stride: usize,
    start: usize,
}

/// What a join is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Join {
    parts: [Columns; 3],
    /// Whether the result is added to what is there.
    add: bool,
}

impl Join {
    fn width(&self) -> usize {
        self.parts.iter().map(|part| part.columns).sum()
    }
}

#[cube(launch)]
fn join_kernel(a: &Array<f32>, b: &Array<f32>, c: &Array<f32>, out: &mut Array<f32>, #[comptime] join: Join) {
    let width = comptime!(join.width());
    let row = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if ABSOLUTE_POS < out.len() {
        let first = comptime!(join.parts[0].columns);
        let second = comptime!(first + join.parts[1].columns);
        let value = if column < first {
            a[row * comptime!(join.parts[0].stride) + comptime!(join.parts[0].start) + column]
        } else if column < second {
            b[row * comptime!(join.parts[1].stride) + comptime!(join.parts[1].start) + column - first]
        } else {
            c[row * comptime!(join.parts[2].stride) + comptime!(join.parts[2].start) + column - second]
        };
        if comptime!(join.add) {
            out[ABSOLUTE_POS] += value;
        } else {
            out[ABSOLUTE_POS] = value;
        }
    }
}

/// Clears the rows whose count is 0.
#[cube(launch)]
fn mask_kernel(counts: &Array<u32>, values: &mut Array<f32>, #[comptime] width: usize) {
    let i = ABSOLUTE_POS;
    if i < values.len() && counts[i / width] == 0 {
        values[i] = 0.0f32;
    }
}

/// One of the matrices put side by side.
#[derive(Clone, Copy)]
pub(super) struct Part<'a, R: CubeRuntime> {
    span: &'a Span<R>,
    columns: Columns,
}

impl<'a, R: CubeRuntime> Part<'a, R> {
    /// Rows of `columns` numbers, one after the other.
    pub(super) fn rows(span: &'a Span<R>, columns: usize) -> Self {
        Self { span, columns: Columns { columns, stride: columns, start: 0 } }
    }

    /// The same row for every row.
    pub(super) fn repeated(span: &'a Span<R>) -> Self {
        Self { span, columns: Columns { columns: span.len(), stride: 0, start: 0 } }
    }

    pub(super) fn columns(&self) -> usize {
        self.columns.columns
    }

    /// `columns` of the columns of `matrix` from `start` on.
    pub(super) fn of(matrix: &'a Matrix<R>, start: usize, columns: usize) -> Self {
        Self { span: &matrix.span, columns: Columns { columns, stride: matrix.columns, start } }
    }
}

/// Puts `parts`, one to three, side by side into `out`, or adds them to what is there.
pub(super) fn join<R: CubeRuntime>(device: &Device<R>, parts: &[Part<'_, R>], out: &Span<R>, add: bool) {
    let nothing = Columns { columns: 0, stride: 0, start: 0 };
    let at = |i: usize| parts.get(i).map_or((parts[0].span, nothing), |part| (part.span, part.columns));
    let [(a, first), (b, second), (c, third)] = [0, 1, 2].map(at);
    let join = Join { parts: [first, second, third], add };
    if out.len() > 0 {
        join_kernel::launch::<R>(&device.client, units(out.len()), CubeDim::new_1d(UNITS), a.arg(), b.arg(), c.arg(), out.arg(), join);
    }
}

impl<R: CubeRuntime> Matrix<R> {
    /// A matrix that nobody has written yet.
    pub(super) fn new(device: &Device<R>, rows: usize, columns: usize) -> Self {
        Self::of(device, device.empty(rows * columns).part(0, rows * columns), rows, columns)
    }

    /// The first numbers of `span` as a matrix.
    pub(super) fn of(device: &Device<R>, span: Span<R>, rows: usize, columns: usize) -> Self {
        Self { device: device.clone(), span: span.part(0, rows * columns), rows, columns }
    }

    /// The numbers of `tensor`, which has that many.
    pub(super) fn from_tensor(tensor: &CubeTensor<R>, rows: usize, columns: usize) -> Self {
        let device = Device::of(tensor);
        let span = device.span(tensor);
        Self::of(&device, span, rows, columns)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The numbers, row by row. Waits for the device.
    pub fn values(&self) -> Vec<f32> {
        self.device.floats(&self.span)
    }

    /// The same numbers as a tensor, `[rows, columns]`.
    pub(super) fn tensor(&self) -> CubeTensor<R> {
        self.device.tensor(&self.span, [self.rows, self.columns])
    }

    /// `[self | other]`.
    ///
    /// # Panics
    /// Where the matrices have different numbers of rows.
    pub fn beside(&self, other: &Self) -> Self {
        assert_eq!(self.rows, other.rows, "rows of matrices side by side");
        let out = Self::new(&self.device, self.rows, self.columns + other.columns);
        join(&self.device, &[Part::of(self, 0, self.columns), Part::of(other, 0, other.columns)], &out.span, false);
        out
    }

    /// `columns` of its columns from `start` on, copied.
    pub fn part(&self, start: usize, columns: usize) -> Self {
        let out = Self::new(&self.device, self.rows, columns);
        join(&self.device, &[Part::of(self, start, columns)], &out.span, false);
        out
    }

    /// Adds as many columns of `other` as it has itself, from `start` on.
    pub fn add_part(&self, other: &Self, start: usize) {
        join(&self.device, &[Part::of(other, start, self.columns)], &self.span, true);
    }

    /// Clears the rows whose count is 0.
    pub(super) fn mask(&self, counts: &Span<R>) {
        if self.span.len() > 0 {
            let (count, dim) = (units(self.span.len()), CubeDim::new_1d(UNITS));
            mask_kernel::launch::<R>(&self.device.client, count, dim, counts.arg(), self.span.arg(), self.columns);
        }
    }
}
