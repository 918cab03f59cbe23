//! A recurrent cell on input rows that are computed before: mapped or averaged messages.
use crate::Cell;
use crate::cpu::memory::cell::{gru, gru_backward, rnn, rnn_backward};
use crate::cpu::memory::{CellGradients, CellWeights};
use crate::cpu::product::linear::{Activation, InputGradient, Linear, LinearWeights, PaddedRows};
use crate::cpu::vector::math::add;

/// `h' = cell(x, h)` of some rows, and its gradients. [`MemoryUpdate`](crate::cpu::MemoryUpdate) computes the same for
/// unmapped messages, and is cheaper.
#[derive(Clone, Debug, Default)]
pub struct RecurrentCell {
    ih: Linear,
    hh: Linear,
    /// `[R, G]` the input's products; in the backward pass their gradients.
    gates: PaddedRows,
    /// `[R, G]` the recurrent product; in the backward pass its gradient.
    recurrent: PaddedRows,
}

impl RecurrentCell {
    /// Writes the new memory of row `i` to row `rows[i]` of `out`, `[U, D]`, from its input `x` `[R, X]` and its memory
    /// `own` `[R, D]`.
    pub fn forward(
        &mut self,
        cell: Cell,
        [x, own]: [&PaddedRows; 2],
        weights: CellWeights<'_>,
        rows: &[u32],
        out: &mut [f32],
    ) {
        let CellWeights { w_ih, w_hh, b_ih, b_hh, version, precision } = weights;
        let RecurrentCell { ih, hh, gates, recurrent } = self;
        let map = |weight| LinearWeights { weight, bias: None, version, precision };
        rayon::join(
            || ih.forward(x, map(w_ih), Activation::None, gates),
            || hh.forward(own, map(w_hh), Activation::None, recurrent),
        );
        let d = own.columns();
        let summed = cell.summed() * d;
        for (i, &row) in rows.iter().enumerate() {
            let (gates, recurrent) = (gates.row_mut(i), recurrent.row_mut(i));
            add(&mut gates[..summed], &recurrent[..summed]);
            let out = &mut out[row as usize * d..][..d];
            match cell {
                Cell::Gru => gru(out, gates, &mut recurrent[summed..], [b_ih, b_hh], own.row(i)),
                Cell::Rnn => rnn(out, gates, [b_ih, b_hh]),
            }
        }
    }

    /// Gradients of the weights and of the input, overwritten, given `grad`, that of the new memories, `[U, D]`. Called
    /// after [`forward`](Self::forward) with the same rows and weights. Memories are constants.
    pub fn backward(
        &mut self,
        cell: Cell,
        [x, own]: [&PaddedRows; 2],
        weights: CellWeights<'_>,
        (rows, grad): (&[u32], &[f32]),
        gradients: CellGradients<'_>,
        into: InputGradient<'_>,
    ) {
        let RecurrentCell { ih, hh, gates, recurrent } = self;
        let d = own.columns();
        let summed = cell.summed() * d;
        for (i, &row) in rows.iter().enumerate() {
            let (gates, recurrent) = (gates.row_mut(i), recurrent.row_mut(i));
            let grad = &grad[row as usize * d..][..d];
            match cell {
                Cell::Gru => {
                    let (r, rest) = gates.split_at_mut(d);
                    let (z, n) = rest.split_at_mut(d);
                    gru_backward(r, z, n, &mut recurrent[summed..], own.row(i), grad);
                }
                Cell::Rnn => rnn_backward(gates, grad),
            }
            recurrent[..summed].copy_from_slice(&gates[..summed]);
        }
        let CellGradients { w_ih, w_hh, b_ih, b_hh } = gradients;
        ih.backward(x, weights.w_ih, gates, [w_ih, b_ih], into);
        hh.backward(own, weights.w_hh, recurrent, [w_hh, b_hh], InputGradient::Unwanted);
    }
}
