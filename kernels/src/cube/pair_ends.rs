//! The two ends of pairs as rows of a table: a row that many pairs name is mapped once.
use super::gather::{gather_span, scatter_onto};
use super::matrix::Matrix;
use super::plans::group;
use super::span::{Device, Parcel, Places, Span};
use burn_cubecl::CubeRuntime;

/// Rows of a table for either end of some pairs, and for every row of the table where it is named.
#[derive(Clone, Debug)]
pub struct PairEnds<R: CubeRuntime> {
    device: Device<R>,
    rows: [Span<R>; 2],
    groups: [[Span<R>; 2]; 2],
    /// Rows of the table.
    below: usize,
}

impl<R: CubeRuntime> PairEnds<R> {
    /// Sends the `rows` of `table` that stand at either end, in one transfer.
    ///
    /// # Panics
    /// Where a row is not one of the table's.
    pub fn send(table: &Matrix<R>, rows: [&[u32]; 2]) -> Self {
        let (device, below) = (&table.device, table.rows());
        assert!(rows.iter().copied().flatten().all(|&row| (row as usize) < below), "a pair's end is not below {below}");
        let mut parcel = Parcel::default();
        for rows in rows {
            let (starts, grouped) = group(below, 0..rows.len() as u32, rows);
            parcel.integers(rows.iter().copied());
            parcel.integers(starts);
            parcel.integers(grouped);
        }
        let sent = device.send(parcel);
        let mut places = Places::default();
        let mut next = |len: usize| sent.part(places.next(len), len);
        let [(a, of_a), (b, of_b)] = rows.map(|rows| (next(rows.len()), [next(below + 1), next(rows.len())]));
        Self { device: device.clone(), rows: [a, b], groups: [of_a, of_b], below }
    }

    /// The rows of `table` at the first (0) or the second end (1).
    pub fn gather(&self, table: &Matrix<R>, end: usize) -> Matrix<R> {
        let rows = &self.rows[end];
        Matrix::from_tensor(&gather_span(&self.device, &table.span, rows, table.columns()), rows.len(), table.columns())
    }

    /// The gradient of the table from those of both ends' rows.
    pub fn backward(&self, ends: [&Matrix<R>; 2]) -> Matrix<R> {
        let out = Matrix::new(&self.device, self.below, ends[0].columns());
        for (i, (grad, [starts, positions])) in ends.into_iter().zip(&self.groups).enumerate() {
            scatter_onto(&self.device, &grad.span, [starts, positions], self.below, &out.span, i > 0);
        }
        out
    }
}
