//! Sums over rows, in a fixed order.
use crate::cube::launch::buffer::{Device, DeviceBuffer, cubes};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Columns and rows of units in a cube.
pub(crate) const COLUMNS: u32 = 32;
pub(crate) const ROWS: u32 = 8;
/// Rows of the input that a cube sums.
const CHUNK: usize = 256;

/// The sum over the rows of units of their values, in order. Only the first row of units has the result.
///
/// `shared` holds a number for each unit. Every unit of the cube must reach this call.
#[cube]
pub(crate) fn sum_unit_rows(value: f32, shared: &mut SharedMemory<f32>) -> f32 {
    sync_cube();
    shared[(UNIT_POS_Y * COLUMNS + UNIT_POS_X) as usize] = value;
    sync_cube();
    let mut sum = 0.0f32;
    if UNIT_POS_Y == 0 {
        for y in 0..ROWS {
            sum += shared[(y * COLUMNS + UNIT_POS_X) as usize];
        }
    }
    sum
}

/// `out[chunk, column]`, the sum of the rows of a chunk of `input` `[rows, width]`.
#[cube(launch)]
fn sum_chunks(input: &Array<f32>, out: &mut Array<f32>, rows: u32, width: u32, chunks: u32, blocks: u32) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * ROWS) as usize));
    let at = u32::min(CUBE_POS as u32, chunks * blocks - 1);
    let chunk = at / blocks;
    let column = at % blocks * COLUMNS + UNIT_POS_X;
    let end = u32::min((chunk + 1) * comptime!(CHUNK as u32), rows);
    let mut sum = 0.0f32;
    if column < width {
        for row in range_stepped(chunk * comptime!(CHUNK as u32) + UNIT_POS_Y, end, ROWS) {
            sum += input[(row * width + column) as usize];
        }
    }
    let sum = sum_unit_rows(sum, &mut shared);
    if UNIT_POS_Y == 0 && column < width {
        out[(chunk * width + column) as usize] = sum;
    }
}

/// `[width]`: the sum of the rows of `input` `[rows, width]`.
pub(crate) fn sum_rows<R: CubeRuntime>(
    device: &Device<R>,
    input: &DeviceBuffer<R>,
    rows: usize,
    width: usize,
) -> DeviceBuffer<R> {
    let out = device.empty(width);
    sum_rows_into(device, input, rows, width, &out);
    out
}

/// As [`sum_rows`], written to the first numbers of `out`.
pub(crate) fn sum_rows_into<R: CubeRuntime>(
    device: &Device<R>,
    input: &DeviceBuffer<R>,
    rows: usize,
    width: usize,
    out: &DeviceBuffer<R>,
) {
    let (mut input, mut rows) = (input.clone(), rows);
    loop {
        let (chunks, blocks) = (rows.div_ceil(CHUNK).max(1), width.div_ceil(COLUMNS as usize).max(1));
        let sums = if chunks == 1 { out.clone() } else { device.empty(chunks * width) };
        let (count, dim) = (cubes(chunks * blocks), CubeDim::new_2d(COLUMNS, ROWS));
        let sizes = [rows, width, chunks, blocks].map(|size| size as u32);
        sum_chunks::launch::<R>(
            &device.client,
            count,
            dim,
            input.arg(),
            sums.arg(),
            sizes[0],
            sizes[1],
            sizes[2],
            sizes[3],
        );
        if chunks == 1 {
            return;
        }
        (input, rows) = (sums, chunks);
    }
}
