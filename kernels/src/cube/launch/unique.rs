//! The distinct nodes of a list, in order of first appearance.
use crate::cube::launch::buffer::{Device, DeviceBuffer, UNITS, units};
use crate::cube::launch::plans::NONE;
use crate::cube::launch::scan::starts_of_nodes;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// The row of every name, the node of every row, and the number of its names.
#[cube(launch)]
fn rows_kernel(
    named: &Array<u32>,
    first: &Array<u32>,
    starts: &Array<u32>,
    rows: &mut Array<u32>,
    nodes: &mut Array<u32>,
    counts: &mut Array<Atomic<u32>>,
) {
    let i = ABSOLUTE_POS;
    if i < named.len() {
        let node = named[i];
        let mut row = NONE.runtime();
        if node != NONE {
            let at = first[node as usize];
            row = starts[at as usize];
            counts[row as usize].fetch_add(1u32);
            if at == i as u32 {
                nodes[row as usize] = node;
            }
        }
        rows[i] = row;
    }
}

/// Distinct nodes of a list.
pub(crate) struct Unique<R: CubeRuntime> {
    /// `[P]` the row of every name, [`NONE`] for an empty name.
    pub(crate) rows: DeviceBuffer<R>,
    /// `[capacity]` the node of every row; nothing is written after the last row.
    pub(crate) nodes: DeviceBuffer<R>,
    /// `[P + 1]`; the last number is the number of rows.
    pub(crate) starts: DeviceBuffer<R>,
}

/// The distinct nodes of `named` `[P]`, at most `capacity`, given the `first` `[N]` name of each. Adds the number of
/// names of each row to `counts`, which must hold zeros.
pub(crate) fn unique<R: CubeRuntime>(
    device: &Device<R>,
    named: &DeviceBuffer<R>,
    first: &DeviceBuffer<R>,
    counts: &DeviceBuffer<R>,
    capacity: usize,
) -> Unique<R> {
    let names = named.len();
    let (rows, nodes) = (device.empty(names).part(0, names), device.empty(capacity).part(0, capacity));
    let starts = starts_of_nodes(device, named, first);
    rows_kernel::launch::<R>(
        &device.client,
        units(names),
        CubeDim::new_1d(UNITS),
        named.arg(),
        first.arg(),
        starts.arg(),
        rows.arg(),
        nodes.arg(),
        counts.arg(),
    );
    Unique { rows, nodes, starts }
}
