//! Prefix sums: the start of each part, from the lengths of all.
use crate::cube::launch::buffer::{Device, DeviceBuffer, cubes};
use crate::cube::launch::plans::NONE;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Units of the one cube.
const UNITS: u32 = 256;

/// A length: the number itself or, for names, 1 if the name is the first of its node.
#[cube]
fn length(numbers: &Array<u32>, first: &Array<u32>, i: usize, #[comptime] names: bool) -> u32 {
    let number = numbers[i];
    if comptime!(names) {
        let mut mark = 0u32;
        if number != NONE {
            mark = select(first[number as usize] == i as u32, 1u32, 0u32);
        }
        mark
    } else {
        number
    }
}

/// `starts[i]`, the sum of the first `i` of `lengths`, and `starts[n]`, the sum of all. One cube computes it: each unit
/// sums a run.
#[cube(launch)]
fn starts_kernel(numbers: &Array<u32>, first: &Array<u32>, starts: &mut Array<u32>, n: u32, #[comptime] names: bool) {
    let mut sums = SharedMemory::<u32>::new(comptime!(UNITS as usize));
    let n = n as usize;
    let unit = UNIT_POS as usize;
    let run = n.div_ceil(comptime!(UNITS as usize));
    let begin = usize::min(unit * run, n);
    let end = usize::min(begin + run, n);
    let mut sum = 0u32;
    for i in begin..end {
        sum += length(numbers, first, i, names);
    }
    sums[unit] = sum;
    // after each round a unit holds the sum of twice as many runs; the last is its own
    #[unroll]
    for round in 0..comptime!(UNITS.ilog2()) {
        let reach = comptime!((1u32 << round) as usize);
        sync_cube();
        let mut before = 0u32;
        if unit >= reach {
            before = sums[unit - reach];
        }
        sync_cube();
        sums[unit] += before;
    }
    sync_cube();
    let mut start = sums[unit] - sum;
    for i in begin..end {
        starts[i] = start;
        start += length(numbers, first, i, names);
    }
    if unit == comptime!(UNITS as usize - 1) {
        starts[n] = sums[unit];
    }
}

fn launch<R: CubeRuntime>(
    device: &Device<R>,
    numbers: &DeviceBuffer<R>,
    first: &DeviceBuffer<R>,
    n: usize,
    names: bool,
) -> DeviceBuffer<R> {
    let starts = device.empty(n + 1).part(0, n + 1);
    let (client, dim) = (&device.client, CubeDim::new_1d(UNITS));
    starts_kernel::launch::<R>(client, cubes(1), dim, numbers.arg(), first.arg(), starts.arg(), n as u32, names);
    starts
}

/// `[n + 1]`, from lengths `[n]`.
pub(crate) fn starts<R: CubeRuntime>(device: &Device<R>, lengths: &DeviceBuffer<R>, n: usize) -> DeviceBuffer<R> {
    launch(device, lengths, lengths, n, false)
}

/// `[n + 1]` number of distinct nodes before each name, from names `[n]` and the first name of every node, `[N]`.
pub(crate) fn starts_of_nodes<R: CubeRuntime>(
    device: &Device<R>,
    names: &DeviceBuffer<R>,
    first: &DeviceBuffer<R>,
) -> DeviceBuffer<R> {
    launch(device, names, first, names.len(), true)
}
