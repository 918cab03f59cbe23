//! Dropout of single numbers in rows.

use tempograph_kernels::cpu::PaddedRows;
use tempograph_kernels::tensor::Tensor;
use tempograph_kernels::{Dropout, TemporalOps};

use crate::operation::TensorContext;

/// Keeps these dropout streams apart from those of attention weights, which are also offsets of a step's seed.
const OF_ROWS: u64 = 1 << 32;

/// Dropout on rows under a step's seed. The same `stream` gives the same mask.
pub(crate) fn of_rows(rate: f32, seed: Option<u64>, stream: u64) -> Option<Dropout> {
    seed.filter(|_| rate > 0.0).map(|seed| Dropout { rate, seed: seed.wrapping_add(OF_ROWS + stream) })
}

/// Applies dropout to `rows`, or to their gradient.
pub(crate) fn drop_from(rows: &mut PaddedRows, dropout: Option<Dropout>) {
    let Some(dropout) = dropout else { return };
    let columns = rows.columns();
    for row in 0..rows.rows() {
        for (i, number) in rows.row_mut(row).iter_mut().enumerate() {
            *number *= dropout.factor((row * columns + i) as u64);
        }
    }
}

/// The same on tensors.
pub(crate) fn drop_on_tensors<B: TemporalOps>(
    cx: &TensorContext<'_, B>,
    rows: Tensor<B, 2>,
    dropout: Option<Dropout>,
) -> Tensor<B, 2> {
    let Some(dropout) = dropout else { return rows };
    let [count, columns] = rows.dims();
    rows * cx.from_rows((0..(count * columns) as u64).map(|i| dropout.factor(i)).collect(), [count, columns])
}
