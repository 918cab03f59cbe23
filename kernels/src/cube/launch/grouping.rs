//! Groups positions by the row they refer to, on the device.
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, units};
use crate::cube::launch::plans::NONE;
use crate::cube::launch::scan::starts;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Puts every position into its group, in any order.
#[cube(launch)]
fn fill_kernel(rows: &Array<u32>, starts: &Array<u32>, counts: &mut Array<Atomic<u32>>, unordered: &mut Array<u32>) {
    if ABSOLUTE_POS < rows.len() {
        let row = rows[ABSOLUTE_POS];
        if row != NONE {
            let place = starts[row as usize] + counts[row as usize].fetch_sub(1u32) - 1;
            unordered[place as usize] = ABSOLUTE_POS as u32;
        }
    }
}

/// Sorts the positions of each group, so that the result does not depend on the order of the threads.
#[cube(launch)]
fn order_kernel(rows: &Array<u32>, starts: &Array<u32>, unordered: &Array<u32>, ordered: &mut Array<u32>) {
    if ABSOLUTE_POS < rows.len() {
        let row = rows[ABSOLUTE_POS];
        if row != NONE {
            let start = starts[row as usize];
            let mut place = start;
            for at in start..starts[row as usize + 1] {
                place += select(unordered[at as usize] < ABSOLUTE_POS as u32, 1u32, 0u32);
            }
            ordered[place as usize] = ABSOLUTE_POS as u32;
        }
    }
}

/// The start of the group of each of `count` rows, and the positions group by group, ascending in each:
/// [`group`](crate::cube::launch::plans::group) on the device. `rows` has [`NONE`] for a position without a group.
/// `counts` has the number of positions of each row; the call resets it to zeros.
pub(crate) fn group<R: CubeRuntime>(
    device: &Device<R>,
    rows: &DeviceBuffer<R>,
    counts: &DeviceBuffer<R>,
    count: usize,
) -> [DeviceBuffer<R>; 2] {
    let (client, dim) = (&device.client, CubeDim::new_1d(UNITS));
    let starts = starts(device, counts, count);
    let [unordered, ordered] = [(); 2].map(|()| device.empty(rows.len()));
    fill_kernel::launch::<R>(client, units(rows.len()), dim, rows.arg(), starts.arg(), counts.arg(), unordered.arg());
    order_kernel::launch::<R>(client, units(rows.len()), dim, rows.arg(), starts.arg(), unordered.arg(), ordered.arg());
    [starts, ordered]
}
