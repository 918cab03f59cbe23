//! The row head on slices.

use tempograph_kernels::cpu::{Activation, InputGradient, Linear, PaddedRows, add, relu_backward};

use crate::operation::{Gradients, Weights};
use crate::ops::pairs::head::RowHead;

/// A row head on slices: its working memory.
#[derive(Debug, Default)]
pub(crate) struct RowStage {
    maps: [Linear; 2],
    /// `[C, O']`
    rectified: PaddedRows,
    rectified_gradient: PaddedRows,
    /// `[C, K]`
    given: PaddedRows,
    gradient: PaddedRows,
}

impl RowStage {
    /// Writes the outputs of the roots, `[R, K]`: root `r` is row `roots[r]` of `table`, `[C, O]`.
    pub fn forward(
        &mut self,
        head: &RowHead,
        weights: Weights<'_>,
        table: &PaddedRows,
        roots: &[u32],
        outputs: &mut Vec<f32>,
    ) {
        let RowStage { maps: [first, last], rectified, given, .. } = self;
        first.forward(table, weights.linear(&head.maps[0]), Activation::Relu, rectified);
        last.forward(rectified, weights.linear(&head.maps[1]), Activation::None, given);
        outputs.clear();
        roots.iter().for_each(|&row| outputs.extend_from_slice(given.row(row as usize)));
    }

    /// Writes the gradients of the head's weights and adds those of the table's rows, given the derivative of the loss
    /// with respect to each output.
    pub fn backward(
        &mut self,
        head: &RowHead,
        weights: Weights<'_>,
        (table, roots): (&PaddedRows, &[u32]),
        outputs: &[f32],
        gradients: &mut Gradients<'_>,
        of_table: &mut PaddedRows,
    ) {
        let RowStage { maps: [first, last], rectified, rectified_gradient, given, gradient } = self;
        gradient.zeros(given.rows(), given.columns());
        for (&row, output) in roots.iter().zip(outputs.chunks_exact(head.outputs())) {
            add(gradient.row_mut(row as usize), output);
        }
        let [of_first, of_last] = gradients.maps([&head.maps[0], &head.maps[1]]);
        let replace = InputGradient::Replace(rectified_gradient);
        last.backward(rectified, weights.values(head.maps[1].weight), gradient, of_last, replace);
        relu_backward(&mut rectified_gradient.values, &rectified.values);
        let into = InputGradient::Add(of_table);
        first.backward(table, weights.values(head.maps[0].weight), rectified_gradient, of_first, into);
    }
}
