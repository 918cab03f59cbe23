//! Rows of a matrix by number, and back.
use super::plans::group;
use super::reduce::{COLUMNS, ROWS, down};
use super::span::{Device, Parcel, UNITS, cubes, padded, units};
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

#[cube(launch)]
fn gather_kernel(hidden: &Array<f32>, rows: &Array<u32>, out: &mut Array<f32>, #[comptime] width: usize) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        out[i] = hidden[rows[i / width] as usize * width + i % width];
    }
}

/// Adds up, for each row, the rows of `grad` at its positions. A cube takes a row.
#[cube(launch)]
fn scatter_kernel(
    grad: &Array<f32>,
    starts: &Array<u32>,
    positions: &Array<u32>,
    out: &mut Array<f32>,
    count: u32,
    #[comptime] width: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * ROWS) as usize));
    let row = usize::min(CUBE_POS, count as usize - 1);
    let start = starts[row];
    let end = starts[row + 1];
    for block in 0..comptime!(width.div_ceil(COLUMNS as usize)) {
        let column = block * COLUMNS as usize + UNIT_POS_X as usize;
        let mut sum = 0.0f32;
        if column < width {
            for at in range_stepped(start + UNIT_POS_Y, end, ROWS) {
                sum += grad[positions[at as usize] as usize * width + column];
            }
        }
        let sum = down(sum, &mut shared);
        if UNIT_POS_Y == 0 && column < width {
            out[row * width + column] = sum;
        }
    }
}

/// `hidden[rows]`.
pub(super) fn gather<R: CubeRuntime>(hidden: &CubeTensor<R>, rows: &[u32]) -> CubeTensor<R> {
    let device = Device::of(hidden);
    let [count, width] = hidden.shape().dims();
    assert!(rows.iter().all(|&row| (row as usize) < count), "a row is not below {count}");
    let (tensor, out) = device.matrix(rows.len(), width);
    if out.len() > 0 {
        let mut parcel = Parcel::default();
        parcel.integers(rows.iter().copied());
        let (hidden, rows) = (device.span(hidden), device.send(parcel));
        let (count, dim) = (units(out.len()), CubeDim::new_1d(UNITS));
        gather_kernel::launch::<R>(&device.client, count, dim, hidden.arg(), rows.arg(), out.arg(), width);
    }
    tensor
}

/// Gradient of `hidden`, which has `count` rows.
pub(super) fn gather_backward<R: CubeRuntime>(grad: &CubeTensor<R>, rows: &[u32], count: usize) -> CubeTensor<R> {
    let device = Device::of(grad);
    let [_, width] = grad.shape().dims();
    let (tensor, out) = device.matrix(count, width);
    if out.len() > 0 {
        let (starts, positions) = group(count, 0..rows.len() as u32, rows);
        let (starts_len, positions_len) = (starts.len(), positions.len());
        let mut parcel = Parcel::default();
        parcel.integers(starts);
        parcel.integers(positions);
        let sent = device.send(parcel);
        let (starts, positions) = (sent.part(0, starts_len), sent.part(padded(starts_len), positions_len));
        let (launch, dim) = (cubes(count), CubeDim::new_2d(COLUMNS, ROWS));
        let grad = device.span(grad);
        scatter_kernel::launch::<R>(&device.client, launch, dim, grad.arg(), starts.arg(), positions.arg(), out.arg(), count as u32, width);
    }
    tensor
}
