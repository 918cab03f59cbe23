//! The payload of a batch's mail, from rows of its ends.
use crate::cube::array::matrix::Matrix;
use crate::cube::history::past::{DeviceView, EndRows};
use crate::cube::launch::buffer::{UNITS, units};
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// Which rows of an event's ends its mail to one end carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailRows {
    /// The row of the other end.
    Other,
    /// The receiver's own row, then that of the other end.
    Both,
    /// The sum of both rows.
    Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    width: usize,
    rows: MailRows,
    /// Whether ends are listed instead of consecutive.
    listed: bool,
}

impl Shape {
    fn columns(&self) -> usize {
        if self.rows == MailRows::Both { 2 * self.width } else { self.width }
    }
}

/// The table row of an end.
#[cube]
fn row_of(list: &Array<u32>, first: u32, end: usize, #[comptime] shape: Shape) -> usize {
    if comptime!(shape.listed) { list[end] as usize } else { first as usize + end }
}

/// `[2 B, columns]`: row `2 e` is the payload from the source of event `e` to its destination, and the next row the
/// payload in the other direction.
#[cube(launch)]
fn mail_rows_kernel(table: &Array<f32>, list: &Array<u32>, first: u32, out: &mut Array<f32>, #[comptime] shape: Shape) {
    let i = ABSOLUTE_POS;
    if i < out.len() {
        let width = comptime!(shape.width);
        let says = i / comptime!(shape.columns());
        let column = i % comptime!(shape.columns());
        let hears = says + 1 - 2 * (says % 2);
        let own = row_of(list, first, says, shape);
        let other = row_of(list, first, hears, shape);
        let mut value = table[select(column < width, other, own) * width + column % width];
        if comptime!(shape.rows == MailRows::Other) {
            value = table[own * width + column];
        } else if comptime!(shape.rows == MailRows::Sum) {
            value += table[own * width + column];
        }
        out[i] = value;
    }
}

/// The mail payload of the current batch, `[2 B, ..]`, from the `table` of the roots' rows.
pub fn mail_rows<R: CubeRuntime>(past: &DeviceView<R>, table: &Matrix<R>, rows: MailRows) -> Matrix<R> {
    let (listed, list, first, ends) = match &past.ends {
        EndRows::From(first, ends) => (false, &past.touched_rows, *first, *ends),
        EndRows::Listed(list) => (true, list, 0, list.len()),
    };
    let shape = Shape { width: table.columns(), rows, listed };
    let out = Matrix::new(&past.device, ends, shape.columns());
    if out.buffer.len() > 0 {
        let (count, dim) = (units(out.buffer.len()), CubeDim::new_1d(UNITS));
        let (table, list, first) = (table.buffer.arg(), list.arg(), first as u32);
        mail_rows_kernel::launch::<R>(&past.device.client, count, dim, table, list, first, out.buffer.arg(), shape);
    }
    out
}
