//! The residual form of attention layers on slices.

use tempograph_framework::View;
use tempograph_kernels::cpu::{
    Activation, InputGradient, LayerNorm, Linear, PaddedRows, add, add_time_gradient, cos_row, relu_backward, sin_row,
};

use crate::operation::{Context, Gradients, Map, Stage, TableGradients, Tables};
use crate::ops::layers::attention::slices::{Work, gather_with_zero_time, scatter, zero_time_backward};
use crate::ops::layers::attention::{AttentionLayer, Maps};
use crate::ops::tables::centres::centre_nodes_into;
use crate::ops::tables::dropout::drop_from;

/// A layer and its working memory. Rows are those of the centres. If the layer appends padding, the last row is that of
/// a centre of zeros.
#[derive(Debug)]
pub(crate) struct ResidualStage {
    layer: AttentionLayer,
    work: Work,
    norm: LayerNorm,
    /// The sum of projected attention and centres, before and after the norm.
    summed: PaddedRows,
    normed: PaddedRows,
    gradient: PaddedRows,
    alone: EmptyNeighbourhoodWork,
    /// Nodes of the centres, if the merge layer reads another table.
    nodes: Vec<u32>,
}

/// Centres without neighbours, each with a neighbour of zeros.
#[derive(Debug, Default)]
struct EmptyNeighbourhoodWork {
    /// Their rows.
    rows: Vec<u32>,
    /// Ticks since their neighbour was met.
    ages: Vec<f32>,
    value: Linear,
    /// `[A, X]`
    seen: PaddedRows,
    seen_gradient: PaddedRows,
    /// `[A, Q]`
    mapped: PaddedRows,
    /// `[Q, X]`
    of_value: Vec<f32>,
}

impl ResidualStage {
    pub fn new(layer: AttentionLayer) -> ResidualStage {
        ResidualStage {
            layer,
            work: Work::default(),
            norm: LayerNorm::default(),
            summed: PaddedRows::default(),
            normed: PaddedRows::default(),
            gradient: PaddedRows::default(),
            alone: EmptyNeighbourhoodWork::default(),
            nodes: Vec::new(),
        }
    }
}

impl AttentionLayer {
    /// The row of `table` for a neighbour of zeros; `None` if that row would be zeros itself.
    pub(crate) fn padding_row(&self, view: &View, rows: usize) -> Option<usize> {
        let below = view.hops.get(self.hop + 1).map_or(rows, |hop| hop.centres.len());
        (self.attends_to_padding() && rows > below).then_some(below)
    }
}

impl EmptyNeighbourhoodWork {
    /// Attention of centres without neighbours.
    fn attend(
        &mut self,
        layer: &AttentionLayer,
        cx: &Context<'_>,
        value: &Map,
        table: &PaddedRows,
        out: &mut PaddedRows,
    ) {
        let (hop, time) = (&cx.view.hops[layer.hop], layer.time.weights(cx.weights));
        self.rows.clear();
        self.ages.clear();
        for (row, _) in hop.neighbours.count.iter().enumerate().filter(|(_, count)| **count == 0) {
            self.rows.push(row as u32);
            self.ages.push(hop.age.get(row).copied().unwrap_or(0.0));
        }
        if layer.appends_padding_row() {
            self.rows.push(hop.centres.len() as u32);
            self.ages.push(0.0);
        }
        if !layer.attends_to_padding() {
            return self.rows.iter().for_each(|&row| out.row_mut(row as usize).fill(0.0));
        }
        let padding = layer.padding_row(cx.view, table.rows());
        self.seen.zeros(self.rows.len(), value.inputs);
        for (i, &age) in self.ages.iter().enumerate() {
            let row = self.seen.row_mut(i);
            if let Some(padding) = padding {
                row[..layer.input].copy_from_slice(table.row(padding));
            }
            cos_row(&mut row[layer.input + layer.edge..], age, time.freq, time.phase);
        }
        self.value.forward(&self.seen, cx.weights.linear(value), Activation::None, &mut self.mapped);
        self.rows
            .iter()
            .enumerate()
            .for_each(|(i, &row)| out.row_mut(row as usize).copy_from_slice(self.mapped.row(i)));
    }

    /// Moves the gradient of their attention out of `grad`.
    fn take_gradient(&mut self, grad: &mut PaddedRows) {
        self.mapped.zeros(self.rows.len(), grad.columns());
        for (i, &row) in self.rows.iter().enumerate() {
            self.mapped.row_mut(i).copy_from_slice(grad.row(row as usize));
            grad.row_mut(row as usize).fill(0.0);
        }
    }

    /// Adds the gradients of value weights, time and table.
    fn backward(
        &mut self,
        layer: &AttentionLayer,
        cx: &Context<'_>,
        value: &Map,
        of_table: &mut PaddedRows,
        gradients: &mut Gradients<'_>,
    ) {
        if !layer.attends_to_padding() || self.rows.is_empty() {
            return;
        }
        self.of_value.resize(value.inputs * value.outputs, 0.0);
        let (weight, into) = (cx.weights.values(value.weight), InputGradient::Replace(&mut self.seen_gradient));
        self.value.backward(&self.seen, weight, &self.mapped, [&mut self.of_value, &mut []], into);
        add(gradients.param_mut(value.weight), &self.of_value);
        let (time, padding) = (layer.time.weights(cx.weights), layer.padding_row(cx.view, of_table.rows()));
        let [freq, phase] = gradients.params_mut([layer.time.freq, layer.time.phase]);
        // the values are not read again, so the sines overwrite them
        for (i, &age) in self.ages.iter().enumerate() {
            let (own, of_time) = self.seen_gradient.row(i).split_at(layer.input + layer.edge);
            let sine = &mut self.seen.row_mut(i)[layer.input + layer.edge..];
            sin_row(sine, age, time.freq, time.phase);
            add_time_gradient(freq, phase, age, sine, of_time);
            if let Some(padding) = padding {
                add(of_table.row_mut(padding), &own[..layer.input]);
            }
        }
    }
}

impl Stage for ResidualStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        let ResidualStage { layer, work, norm, summed, normed, alone, nodes, .. } = self;
        let Maps::Residual { query, value, out: map, norm: scale, fc1, fc2, .. } = &layer.maps else { return };
        let (table, hop, weights, inner) = (reads.table(0), &cx.view.hops[layer.hop], cx.weights, layer.inner);
        gather_with_zero_time(&mut work.centres, table, hop, &layer.time, weights);
        if layer.appends_padding_row() {
            let (last, time) = (hop.centres.len(), layer.time.weights(weights));
            work.centres.resize(last + 1, inner);
            let (own, now) = work.centres.row_mut(last).split_at_mut(layer.input);
            match layer.padding_row(cx.view, table.rows()) {
                Some(padding) => own.copy_from_slice(table.row(padding)),
                None => own.fill(0.0),
            }
            cos_row(now, 0.0, time.freq, time.phase);
        }
        layer.attend_forward(work, cx, query, table);
        alone.attend(layer, cx, value, table, &mut work.attended);
        work.maps[1].forward(&work.attended, weights.linear(map), Activation::None, summed);
        drop_from(summed, layer.output_dropout(cx.dropout));
        (0..summed.rows()).for_each(|row| add(summed.row_mut(row), work.centres.row(row)));
        norm.forward(summed, scale.map(|param| weights.values(param)), normed);
        work.concat.zeros(normed.rows(), inner + layer.merge_width);
        let merge_rows = (reads.len() > 1).then(|| reads.table(1));
        centre_nodes_into(cx.view, layer.hop, nodes);
        for row in 0..normed.rows() {
            let (left, right) = work.concat.row_mut(row).split_at_mut(inner);
            left.copy_from_slice(normed.row(row));
            match (merge_rows, nodes.get(row)) {
                (None, _) => right.copy_from_slice(&work.centres.row(row)[..layer.input]),
                (Some(merge_rows), Some(&node)) => right.copy_from_slice(merge_rows.row(node as usize)),
                (Some(_), None) => {}
            }
        }
        work.maps[2].forward(&work.concat, weights.linear(fc1), Activation::Relu, &mut work.rectified);
        work.maps[3].forward(&work.rectified, weights.linear(fc2), Activation::None, out);
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let ResidualStage { layer, work, norm, summed, gradient, alone, nodes, .. } = self;
        let Maps::Residual { query, value, out, norm: scale, fc1, fc2, .. } = &layer.maps else { return };
        let (table, hop, weights, inner) = (reads.table(0), &cx.view.hops[layer.hop], cx.weights, layer.inner);
        layer.parts().into_iter().for_each(|parts| gradients.zero(parts.into_iter().flatten()));

        let Work { maps, rectified, rectified_gradient, concat, concat_gradient, .. } = work;
        let onto = InputGradient::Replace(rectified_gradient);
        maps[3].backward(rectified, weights.values(fc2.weight), grad, gradients.map(fc2), onto);
        relu_backward(&mut rectified_gradient.values, &rectified.values);
        let onto = InputGradient::Replace(concat_gradient);
        maps[2].backward(concat, weights.values(fc1.weight), rectified_gradient, gradients.map(fc1), onto);
        gradient.zeros(concat.rows(), inner);
        (0..concat.rows()).for_each(|row| gradient.row_mut(row).copy_from_slice(&concat_gradient.row(row)[..inner]));
        // the input of the norm is not read again, so its gradient overwrites it
        norm.backward(gradient, weights.values(scale[0]), gradients.params_mut(*scale), summed);
        gradient.values.copy_from_slice(&summed.values);
        drop_from(gradient, layer.output_dropout(cx.dropout));
        let Work { maps, attended, attended_gradient, .. } = work;
        attended_gradient.resize_like(attended);
        attended_gradient.values.fill(0.0);
        let onto = InputGradient::Add(attended_gradient);
        maps[1].backward(attended, weights.values(out.weight), gradient, gradients.map(out), onto);
        alone.take_gradient(attended_gradient);

        if reads.len() > 1 {
            let of_merge_rows = into.table(1, reads.table(1));
            of_merge_rows.values.fill(0.0);
            for (row, &node) in nodes.iter().enumerate() {
                add(of_merge_rows.row_mut(node as usize), &work.concat_gradient.row(row)[inner..]);
            }
        }
        let of_table = into.table(0, table);
        layer.attend_backward(work, cx, query, table, of_table, gradients);
        work.projections.split_gradients(gradients, inner, layer.parts());
        alone.backward(layer, cx, value, of_table, gradients);
        let Work { centres_gradient, concat_gradient, sine, .. } = work;
        for row in 0..centres_gradient.rows() {
            let of_centre = centres_gradient.row_mut(row);
            add(of_centre, summed.row(row));
            if reads.len() == 1 {
                add(&mut of_centre[..layer.input], &concat_gradient.row(row)[inner..]);
            }
        }
        zero_time_backward(centres_gradient, layer.input, sine, &layer.time, weights, gradients);
        scatter(of_table, hop, centres_gradient);
        if let (true, Some(padding)) = (layer.appends_padding_row(), layer.padding_row(cx.view, table.rows())) {
            add(of_table.row_mut(padding), &centres_gradient.row(hop.centres.len())[..layer.input]);
        }
    }

    fn attention(&self) -> &[f32] {
        self.work.attention.weights()
    }
}
