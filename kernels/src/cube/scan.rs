//! Where each of a row of numbers begins when they are lengths.
use super::span::{Device, Span, cubes};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Units of the one cube.
const UNITS: u32 = 256;

/// `starts[i]`, the sum of the first `i` of `lengths`, and `starts[n]` of all. One cube does it: each unit takes a run.
#[cube(launch)]
fn starts_kernel(lengths: &Array<u32>, starts: &mut Array<u32>, n: u32) {
    let mut sums = SharedMemory::<u32>::new(comptime!(UNITS as usize));
    let n = n as usize;
    let unit = UNIT_POS as usize;
    let run = n.div_ceil(comptime!(UNITS as usize));
    let first = usize::min(unit * run, n);
    let last = usize::min(first + run, n);
    let mut sum = 0u32;
    for i in first..last {
        sum += lengths[i];
    }
    sums[unit] = sum;
    // after each round a unit holds the sum of twice as many runs, its own the last
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
    for i in first..last {
        starts[i] = start;
        start += lengths[i];
    }
    if unit == comptime!(UNITS as usize - 1) {
        starts[n] = sums[unit];
    }
}

/// `[n + 1]`, from lengths `[n]`.
pub(super) fn starts<R: CubeRuntime>(device: &Device<R>, lengths: &Span<R>, n: usize) -> Span<R> {
    let starts = device.empty(n + 1);
    starts_kernel::launch::<R>(&device.client, cubes(1), CubeDim::new_1d(UNITS), lengths.arg(), starts.arg(), n as u32);
    starts.part(0, n + 1)
}
