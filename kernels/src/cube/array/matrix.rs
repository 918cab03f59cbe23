//! Matrices on a device.
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, units};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use std::fmt;

/// Rows of numbers on a device, one after the other. A clone shares the numbers.
#[derive(Clone)]
pub struct Matrix<R: CubeRuntime> {
    pub(crate) device: Device<R>,
    pub(crate) buffer: DeviceBuffer<R>,
    rows: usize,
    columns: usize,
}

impl<R: CubeRuntime> fmt::Debug for Matrix<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix [{}, {}]", self.rows, self.columns)
    }
}

/// Columns of a matrix: `columns` of them from `start` on, in rows `stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Columns {
    columns: usize,
    stride: usize,
    start: usize,
}

#[cube(launch)]
fn part_kernel(rows: &Array<f32>, out: &mut Array<f32>, #[comptime] part: Columns) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        out[i] = rows[i / comptime!(part.columns) * comptime!(part.stride)
            + comptime!(part.start)
            + i % comptime!(part.columns)];
    }
}

/// Sums of the first columns of two matrices, whose rows are `strides` apart.
#[cube(launch)]
fn plus_kernel(
    one: &Array<f32>,
    other: &Array<f32>,
    out: &mut Array<f32>,
    #[comptime] columns: usize,
    #[comptime] strides: [usize; 2],
) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let (row, column) = (i / columns, i % columns);
        out[i] = one[row * comptime!(strides[0]) + column] + other[row * comptime!(strides[1]) + column];
    }
}

impl<R: CubeRuntime> Matrix<R> {
    /// A matrix with arbitrary numbers.
    pub(crate) fn new(device: &Device<R>, rows: usize, columns: usize) -> Self {
        Self::of(device, device.empty(rows * columns).part(0, rows * columns), rows, columns)
    }

    /// The first numbers of `buffer` as a matrix.
    pub(crate) fn of(device: &Device<R>, buffer: DeviceBuffer<R>, rows: usize, columns: usize) -> Self {
        Self { device: device.clone(), buffer: buffer.part(0, rows * columns), rows, columns }
    }

    /// The numbers of `tensor`, which has that many.
    pub(crate) fn from_tensor(tensor: &CubeTensor<R>, rows: usize, columns: usize) -> Self {
        let device = Device::of(tensor);
        let buffer = device.buffer(tensor);
        Self::of(&device, buffer, rows, columns)
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
        self.device.floats(&self.buffer)
    }

    /// The same numbers as a tensor, `[rows, columns]`.
    pub(crate) fn tensor(&self) -> CubeTensor<R> {
        self.device.tensor(&self.buffer, [self.rows, self.columns])
    }

    /// The sum of the first `columns` columns of both.
    ///
    /// # Panics
    /// If they have different numbers of rows.
    #[must_use]
    pub fn plus(&self, other: &Self, columns: usize) -> Self {
        assert_eq!(self.rows, other.rows, "rows of a sum");
        let out = Self::new(&self.device, self.rows, columns);
        if out.buffer.len() > 0 {
            let (count, dim) = (units(out.buffer.len()), CubeDim::new_1d(UNITS));
            let (one, two, strides) = (self.buffer.arg(), other.buffer.arg(), [self.columns, other.columns]);
            plus_kernel::launch::<R>(&self.device.client, count, dim, one, two, out.buffer.arg(), columns, strides);
        }
        out
    }

    /// A copy of `columns` of its columns from `start` on.
    pub(crate) fn part(&self, start: usize, columns: usize) -> Self {
        let out = Self::new(&self.device, self.rows, columns);
        if out.buffer.len() > 0 {
            let (count, part) = (units(out.buffer.len()), Columns { columns, stride: self.columns, start });
            part_kernel::launch::<R>(
                &self.device.client,
                count,
                CubeDim::new_1d(UNITS),
                self.buffer.arg(),
                out.buffer.arg(),
                part,
            );
        }
        out
    }
}
