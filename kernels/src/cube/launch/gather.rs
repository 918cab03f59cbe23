//! Rows of a matrix by number, and back.
use crate::cube::launch::buffer::{Device, DeviceBuffer, OffsetAllocator, UNITS, UploadBuffer, cubes, units};
use crate::cube::launch::plans::{NONE, group};
use crate::cube::launch::reduce::{COLUMNS, ROWS, sum_unit_rows};
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

#[cube(launch)]
fn gather_kernel(hidden: &Array<f32>, rows: &Array<u32>, out: &mut Array<f32>, #[comptime] width: usize) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let row = rows[i / width];
        let mut value = 0.0f32;
        if row != NONE {
            value = hidden[row as usize * width + i % width];
        }
        out[i] = value;
    }
}

/// Sums, for each row, the rows of `grad` at its positions. A cube handles one row.
#[cube(launch)]
fn scatter_kernel(
    grad: &Array<f32>,
    starts: &Array<u32>,
    positions: &Array<u32>,
    out: &mut Array<f32>,
    count: u32,
    #[comptime] width: usize,
    #[comptime] add: bool,
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
        let sum = sum_unit_rows(sum, &mut shared);
        if UNIT_POS_Y == 0 && column < width {
            if comptime!(add) {
                out[row * width + column] += sum;
            } else {
                out[row * width + column] = sum;
            }
        }
    }
}

/// `hidden[rows]`.
pub(crate) fn gather<R: CubeRuntime>(hidden: &CubeTensor<R>, rows: &[u32]) -> CubeTensor<R> {
    let device = Device::of(hidden);
    let [count, width] = hidden.shape().dims();
    assert!(rows.iter().all(|&row| (row as usize) < count), "a row is not below {count}");
    let mut upload = UploadBuffer::default();
    upload.integers(rows.iter().copied());
    let sent = device.send(upload).part(0, rows.len());
    gather_buffer(&device, &device.buffer(hidden), &sent, width)
}

/// `hidden[rows]`, `[rows, width]`; 0 where a row is [`NONE`].
pub(crate) fn gather_buffer<R: CubeRuntime>(
    device: &Device<R>,
    hidden: &DeviceBuffer<R>,
    rows: &DeviceBuffer<R>,
    width: usize,
) -> CubeTensor<R> {
    let (tensor, out) = device.matrix(rows.len(), width);
    if out.len() > 0 {
        let (count, dim) = (units(out.len()), CubeDim::new_1d(UNITS));
        gather_kernel::launch::<R>(&device.client, count, dim, hidden.arg(), rows.arg(), out.arg(), width);
    }
    tensor
}

/// Gradient of `hidden`, which has `count` rows.
pub(crate) fn gather_backward<R: CubeRuntime>(grad: &CubeTensor<R>, rows: &[u32], count: usize) -> CubeTensor<R> {
    let device = Device::of(grad);
    let (starts, positions) = group(count, 0..rows.len() as u32, rows);
    let lens = [starts.len(), positions.len()];
    let mut upload = UploadBuffer::default();
    upload.integers(starts);
    upload.integers(positions);
    let sent = device.send(upload);
    let mut offsets = OffsetAllocator::default();
    let [starts, positions] = lens.map(|len| sent.part(offsets.next(len), len));
    let (tensor, out) = device.matrix(count, grad.shape()[1]);
    scatter_onto(&device, &device.buffer(grad), [&starts, &positions], count, &out, false);
    tensor
}

/// Writes, or adds, to `out` `[count, width]` the sums of the rows of `grad` that each of `count` groups names.
pub(crate) fn scatter_onto<R: CubeRuntime>(
    device: &Device<R>,
    grad: &DeviceBuffer<R>,
    [starts, positions]: [&DeviceBuffer<R>; 2],
    count: usize,
    out: &DeviceBuffer<R>,
    add: bool,
) {
    if out.len() > 0 {
        let (launch, dim, width) = (cubes(count), CubeDim::new_2d(COLUMNS, ROWS), out.len() / count);
        let groups = (starts.arg(), positions.arg());
        scatter_kernel::launch::<R>(
            &device.client,
            launch,
            dim,
            grad.arg(),
            groups.0,
            groups.1,
            out.arg(),
            count as u32,
            width,
            add,
        );
    }
}
