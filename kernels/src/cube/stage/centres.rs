//! Rows of a hop's centres, and their gradients.
use crate::cube::array::matrix::Matrix;
use crate::cube::history::past::Hop;
use crate::cube::launch::buffer::cubes;
use crate::cube::launch::gather::gather_buffer;
use crate::cube::launch::reduce::{COLUMNS, ROWS, sum_unit_rows};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Sums, for each row, the first `roots` rows of `grad` that refer to it. A cube handles one row.
#[cube(launch)]
fn named_kernel(
    grad: &Array<f32>,
    starts: &Array<u32>,
    names: &Array<u32>,
    out: &mut Array<f32>,
    roots: u32,
    #[comptime] width: usize,
    #[comptime] stride: usize,
    #[comptime] first: usize,
) {
    let mut shared = SharedMemory::<f32>::new(comptime!((COLUMNS * ROWS) as usize));
    let row = usize::min(CUBE_POS, starts.len() - 2);
    let start = starts[row];
    let end = starts[row + 1];
    for block in 0..comptime!(width.div_ceil(COLUMNS as usize)) {
        let column = block * COLUMNS as usize + UNIT_POS_X as usize;
        let mut sum = 0.0f32;
        if column < width {
            for at in range_stepped(start + UNIT_POS_Y, end, ROWS) {
                let name = names[at as usize];
                if name < roots {
                    sum += grad[name as usize * stride + first + column];
                }
            }
        }
        let sum = sum_unit_rows(sum, &mut shared);
        if UNIT_POS_Y == 0 && column < width {
            out[row * width + column] = sum;
        }
    }
}

/// The hop's centres as rows of `table`, `[C, W]`.
///
/// # Panics
/// If `table` is not the table below.
pub fn at_centres<R: CubeRuntime>(hop: &Hop<R>, table: &Matrix<R>) -> Matrix<R> {
    assert_eq!(table.rows(), hop.below, "rows of the table below");
    let rows = gather_buffer(&hop.device, &table.buffer, &hop.centres, table.columns());
    Matrix::from_tensor(&rows, hop.len(), table.columns())
}

/// The gradient of the table, `[rows, width]`, given that of its rows at the centres: the columns of `grad` after the
/// first `first`.
pub fn at_centres_backward<R: CubeRuntime>(hop: &Hop<R>, grad: &Matrix<R>, first: usize, width: usize) -> Matrix<R> {
    let ([starts, names], out) = (&hop.attention.groups, Matrix::new(&hop.device, hop.below, width));
    if out.buffer.len() > 0 {
        named_kernel::launch::<R>(
            &hop.device.client,
            cubes(hop.below),
            CubeDim::new_2d(COLUMNS, ROWS),
            grad.buffer.arg(),
            starts.arg(),
            names.arg(),
            out.buffer.arg(),
            hop.len() as u32,
            width,
            grad.columns(),
            first,
        );
    }
    out
}
