//! The distinct nodes of a list, in the order they are first named.
use super::plans::NONE;
use super::scan::starts;
use super::span::{Device, Span, UNITS, units};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

#[cube(launch)]
fn clear_kernel(named: &Array<u32>, first: &mut Array<Atomic<u32>>) {
    if ABSOLUTE_POS < named.len() {
        let node = named[ABSOLUTE_POS];
        if node != NONE {
            first[node as usize].store(NONE);
        }
    }
}

#[cube(launch)]
fn claim_kernel(named: &Array<u32>, first: &mut Array<Atomic<u32>>) {
    if ABSOLUTE_POS < named.len() {
        let node = named[ABSOLUTE_POS];
        if node != NONE {
            first[node as usize].fetch_min(ABSOLUTE_POS as u32);
        }
    }
}

/// 1 where a node is named for the first time.
#[cube(launch)]
fn mark_kernel(named: &Array<u32>, first: &Array<u32>, marks: &mut Array<u32>) {
    let i = ABSOLUTE_POS;
    if i < named.len() {
        let node = named[i];
        let mut mark = 0u32;
        if node != NONE {
            mark = select(first[node as usize] == i as u32, 1u32, 0u32);
        }
        marks[i] = mark;
    }
}

/// The row of every name, and the node of every row.
#[cube(launch)]
fn rows_kernel(named: &Array<u32>, first: &Array<u32>, starts: &Array<u32>, rows: &mut Array<u32>, nodes: &mut Array<u32>) {
    let i = ABSOLUTE_POS;
    if i < named.len() {
        let node = named[i];
        let mut row = NONE.runtime();
        if node != NONE {
            let at = first[node as usize];
            row = starts[at as usize];
            if at == i as u32 {
                nodes[row as usize] = node;
            }
        }
        rows[i] = row;
    }
}

/// Distinct nodes of a list.
pub(super) struct Unique<R: CubeRuntime> {
    /// `[P]` the row of every name, [`NONE`] where there is none.
    pub(super) rows: Span<R>,
    /// `[capacity]` the node of every row; behind the last one nothing is written.
    pub(super) nodes: Span<R>,
    /// `[P + 1]` whose last number is how many rows there are.
    pub(super) starts: Span<R>,
}

/// The distinct nodes of `named` `[P]`, at most `capacity`. `first` `[N]` is working memory.
pub(super) fn unique<R: CubeRuntime>(device: &Device<R>, named: &Span<R>, first: &Span<R>, capacity: usize) -> Unique<R> {
    let names = named.len();
    let (client, count, dim) = (&device.client, || units(names), CubeDim::new_1d(UNITS));
    let [marks, rows] = [(); 2].map(|()| device.empty(names).part(0, names));
    let nodes = device.empty(capacity).part(0, capacity);
    clear_kernel::launch::<R>(client, count(), dim, named.arg(), first.arg());
    claim_kernel::launch::<R>(client, count(), dim, named.arg(), first.arg());
    mark_kernel::launch::<R>(client, count(), dim, named.arg(), first.arg(), marks.arg());
    let starts = starts(device, &marks, names);
    rows_kernel::launch::<R>(client, count(), dim, named.arg(), first.arg(), starts.arg(), rows.arg(), nodes.arg());
    Unique { rows, nodes, starts }
}
