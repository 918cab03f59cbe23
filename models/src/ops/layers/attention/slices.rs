//! Attention layers on slices.

use tempograph_framework::Hop;
use tempograph_kernels::cpu::{
    Activation, AttentionPlanRef, InputGradient, Linear, NeighbourTable, PaddedRows, ProjectedAttention,
    ProjectionGradients, ProjectionWeights, Version, add, cos_row, head_stride, join_if, relu_backward, sin_row,
};

use crate::operation::{Context, Gradients, MIN_PARALLEL_ROWS, Map, Param, Stage, TableGradients, Tables, Weights};
use crate::ops::layers::attention::{AttentionLayer, Maps};
use crate::ops::tables::time::TimeEncoding;

/// Working memory of a layer.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// `[C, W]` or, for a paper layer, `[C, W + T]` with phi(0) as the last columns.
    pub centres: PaddedRows,
    pub centres_gradient: PaddedRows,
    /// `[C, O]`
    pub query: PaddedRows,
    pub query_gradient: PaddedRows,
    pub projections: Projections,
    pub attention: ProjectedAttention,
    /// `[C, O]`
    pub attended: PaddedRows,
    pub attended_gradient: PaddedRows,
    pub maps: [Linear; 4],
    /// For a conv layer the skip connection; for a paper layer `[attention | centre]`, `[C, O + W]`.
    pub concat: PaddedRows,
    pub concat_gradient: PaddedRows,
    /// For a paper layer, `[C, O]`: `relu(fc1 ..)`, and the input of the merge.
    pub rectified: PaddedRows,
    pub rectified_gradient: PaddedRows,
    pub projected: PaddedRows,
    /// `[T]`
    pub sine: Vec<f32>,
}

/// Key and value weights in the form attention reads, `[O, X]`: each is several parameters concatenated, biases last.
#[derive(Debug, Default)]
pub(crate) struct Projections {
    pub key: Vec<f32>,
    pub value: Vec<f32>,
    /// Version of the concatenated weights.
    version: Option<Version>,
    pub key_gradient: Vec<f32>,
    pub value_gradient: Vec<f32>,
}

impl Projections {
    /// Concatenates these parameters, unless they are of the same version. Columns without a parameter are zeros.
    pub fn concat(
        &mut self,
        weights: Weights<'_>,
        [outputs, columns]: [usize; 2],
        [key, value]: [Parts; 2],
        worth: bool,
    ) {
        let version = weights.parameters.version();
        if self.version != Some(version) {
            join_if(
                worth,
                || concat_columns(&mut self.key, weights, [outputs, columns], key),
                || concat_columns(&mut self.value, weights, [outputs, columns], value),
            );
            self.version = Some(version);
        }
    }

    /// Splits both gradients and adds each part to the gradient of its parameter.
    pub fn split_gradients(&self, gradients: &mut Gradients<'_>, outputs: usize, [key, value]: [Parts; 2]) {
        for (joined, parts) in [(&self.key_gradient, key), (&self.value_gradient, value)] {
            for (row, numbers) in joined.chunks_exact(joined.len() / outputs).enumerate() {
                let mut start = 0;
                for part in parts.into_iter().flatten() {
                    let gradient = gradients.param_mut(part);
                    let columns = gradient.len() / outputs;
                    add(&mut gradient[row * columns..][..columns], &numbers[start..start + columns]);
                    start += columns;
                }
            }
        }
    }
}

/// Matrices with equal numbers of rows, and a bias, which are concatenated.
pub(crate) type Parts = [Option<Param>; 3];

fn concat_columns(out: &mut Vec<f32>, weights: Weights<'_>, [outputs, all]: [usize; 2], parts: Parts) {
    out.clear();
    for row in 0..outputs {
        for part in parts.into_iter().flatten() {
            let numbers = weights.values(part);
            let columns = numbers.len() / outputs;
            out.extend_from_slice(&numbers[row * columns..][..columns]);
        }
        out.resize((row + 1) * all, 0.0);
    }
}

/// The table that attention reads.
pub(crate) fn attended_table<'a>(
    rows: &'a PaddedRows,
    time: &TimeEncoding,
    weights: Weights<'a>,
) -> NeighbourTable<'a> {
    NeighbourTable { hidden: &rows.values, width: rows.columns(), stride: rows.stride(), time: time.weights(weights) }
}

/// Adds the gradients of centres, the first columns of `centres`, to those of their rows.
pub(crate) fn scatter(table: &mut PaddedRows, hop: &Hop, centres: &PaddedRows) {
    let columns = table.columns();
    for (row, &centre) in hop.centres.iter().enumerate() {
        add(table.row_mut(centre as usize), &centres.row(row)[..columns]);
    }
}

/// Centres, each followed by phi(0).
pub(crate) fn gather_with_zero_time(
    centres: &mut PaddedRows,
    table: &PaddedRows,
    hop: &Hop,
    time: &TimeEncoding,
    weights: Weights<'_>,
) {
    let time = time.weights(weights);
    centres.zeros(hop.centres.len(), table.columns() + time.freq.len());
    for (row, &centre) in hop.centres.iter().enumerate() {
        let (own, now) = centres.row_mut(row).split_at_mut(table.columns());
        own.copy_from_slice(table.row(centre as usize));
        cos_row(now, 0.0, time.freq, time.phase);
    }
}

/// The gradient of the phases from phi(0) = cos(phase), which follows `width` columns of each row.
pub(crate) fn zero_time_backward(
    rows: &PaddedRows,
    width: usize,
    sine: &mut Vec<f32>,
    time: &TimeEncoding,
    weights: Weights<'_>,
    gradients: &mut Gradients<'_>,
) {
    let (weights, phase) = (time.weights(weights), gradients.param_mut(time.phase));
    sine.resize(weights.phase.len(), 0.0);
    sin_row(sine, 0.0, weights.freq, weights.phase);
    for row in 0..rows.rows() {
        let now = &rows.row(row)[width..];
        phase.iter_mut().zip(&*sine).zip(now).for_each(|((phase, &sine), &grad)| *phase -= sine * grad);
    }
}

#[derive(Debug)]
pub(crate) struct AttentionStage {
    layer: AttentionLayer,
    work: Work,
}

impl AttentionStage {
    pub fn new(layer: AttentionLayer) -> AttentionStage {
        AttentionStage { layer, work: Work::default() }
    }
}

impl AttentionLayer {
    fn attending<'a>(&self, cx: &Context<'a>) -> AttentionPlanRef<'a> {
        AttentionPlanRef {
            neighbours: &cx.view.hops[self.hop].neighbours,
            features: cx.view.edge_features.as_deref(),
            activation: self.activation(),
            dropout: self.dropout(cx.dropout),
        }
    }

    /// The parameters that are concatenated to keys and to values.
    pub(crate) fn parts(&self) -> [Parts; 2] {
        match &self.maps {
            Maps::Paper { key, value, .. } | Maps::Residual { key, value, .. } => {
                [key, value].map(|map| [Some(map.weight), map.bias, None])
            }
            Maps::Conv { key, value, edge, .. } => {
                [key, value].map(|map| [Some(map.weight), Some(edge.weight), map.bias])
            }
        }
    }

    /// Computes the queries of the centres and their attention.
    pub(crate) fn attend_forward(&self, work: &mut Work, cx: &Context<'_>, query: &Map, table: &PaddedRows) {
        let (width, heads, weights) = (self.inner, self.settings.heads, cx.weights);
        let (rows, stride) = (work.centres.rows(), head_stride(width, heads));
        let columns = self.input + self.edge + self.time.width + 1;
        work.projections.concat(weights, [width, columns], self.parts(), rows >= MIN_PARALLEL_ROWS);
        work.query.resize_with_stride(rows, width, stride);
        work.attended.resize_with_stride(rows, width, stride);
        work.maps[0].forward_into(&work.centres, weights.linear(query), Activation::None, &mut work.query);
        let Work { projections: Projections { key, value, .. }, attention, query, attended, .. } = work;
        let (version, precision) = (weights.parameters.version(), weights.precision);
        let projections = ProjectionWeights { key, value, heads, version, precision };
        let table = attended_table(table, &self.time, weights);
        let shown = ..cx.view.hops[self.hop].centres.len() * stride;
        attention.forward(&self.attending(cx), projections, table, &query.values[shown], &mut attended.values[shown]);
    }

    /// From the gradient of the attention to those of query weights, keys, values, time, table and centres.
    pub(crate) fn attend_backward(
        &self,
        work: &mut Work,
        cx: &Context<'_>,
        query: &Map,
        table: &PaddedRows,
        table_gradient: &mut PaddedRows,
        gradients: &mut Gradients<'_>,
    ) {
        let Work { projections, attention, query: queries, query_gradient, attended_gradient, .. } = work;
        let Projections { key, value, key_gradient, value_gradient, .. } = projections;
        key_gradient.resize(key.len(), 0.0);
        value_gradient.resize(value.len(), 0.0);
        query_gradient.resize_like(queries);
        let shown = cx.view.hops[self.hop].centres.len() * queries.stride();
        query_gradient.values[shown..].fill(0.0);
        let into = ProjectionGradients {
            key: key_gradient,
            value: value_gradient,
            query: &mut query_gradient.values[..shown],
            hidden: &mut table_gradient.values,
            time: gradients.params_mut([self.time.freq, self.time.phase]),
        };
        let table = attended_table(table, &self.time, cx.weights);
        let (queries, of_attended) = (&queries.values[..shown], &attended_gradient.values[..shown]);
        attention.backward(&self.attending(cx), table, queries, of_attended, into);
        let Work { maps, centres, query_gradient, centres_gradient, .. } = work;
        maps[0].backward(
            centres,
            cx.weights.values(query.weight),
            query_gradient,
            gradients.map(query),
            InputGradient::Replace(centres_gradient),
        );
    }

    /// From the gradient of a paper layer's output to that of the attention.
    fn merge_backward(
        &self,
        work: &mut Work,
        cx: &Context<'_>,
        grad: &PaddedRows,
        [out, fc1, fc2]: [&Map; 3],
        gradients: &mut Gradients<'_>,
    ) {
        let Work { maps, rectified, rectified_gradient, concat, concat_gradient, .. } = work;
        let into = InputGradient::Replace(rectified_gradient);
        maps[3].backward(rectified, cx.weights.values(fc2.weight), grad, gradients.map(fc2), into);
        relu_backward(&mut rectified_gradient.values, &rectified.values);
        let into = InputGradient::Replace(concat_gradient);
        maps[2].backward(concat, cx.weights.values(fc1.weight), rectified_gradient, gradients.map(fc1), into);
        let Work { maps, projected, concat_gradient, attended, attended_gradient, .. } = work;
        let counts = &cx.view.hops[self.hop].neighbours.count;
        for (row, &count) in counts.iter().enumerate() {
            let of_attention = &concat_gradient.row(row)[..self.settings.width];
            match count {
                0 => projected.row_mut(row).fill(0.0),
                _ => projected.row_mut(row).copy_from_slice(of_attention),
            }
        }
        attended_gradient.resize_like(attended);
        attended_gradient.values.fill(0.0);
        let into = InputGradient::Add(attended_gradient);
        maps[1].backward(attended, cx.weights.values(out.weight), projected, gradients.map(out), into);
    }
}

/// `[attention | centre]`, with an attention of zero for a centre without neighbours.
fn merge(out: &mut PaddedRows, attended: &PaddedRows, centres: &PaddedRows, width: usize, hop: &Hop) {
    out.zeros(centres.rows(), attended.columns() + width);
    for row in 0..centres.rows() {
        let (left, right) = out.row_mut(row).split_at_mut(attended.columns());
        if hop.neighbours.count[row] > 0 {
            left.copy_from_slice(attended.row(row));
        }
        right.copy_from_slice(&centres.row(row)[..width]);
    }
}

impl Stage for AttentionStage {
    fn forward(&mut self, cx: &Context<'_>, reads: Tables<'_>, out: &mut PaddedRows) {
        let AttentionStage { layer, work } = self;
        let (table, hop, weights) = (reads.table(0), &cx.view.hops[layer.hop], cx.weights);
        match &layer.maps {
            Maps::Conv { query, skip, .. } => {
                work.centres.gather(&table.values, table.stride(), table.columns(), &hop.centres);
                layer.attend_forward(work, cx, query, table);
                work.maps[1].forward(&work.centres, weights.linear(skip), Activation::None, &mut work.concat);
                let Work { attended, concat, .. } = work;
                std::mem::swap(attended, out);
                (0..out.rows()).for_each(|row| add(out.row_mut(row), concat.row(row)));
            }
            Maps::Residual { .. } => unreachable!("it has a stage of its own"),
            Maps::Paper { query, out: map, fc1, fc2, .. } => {
                gather_with_zero_time(&mut work.centres, table, hop, &layer.time, weights);
                layer.attend_forward(work, cx, query, table);
                work.maps[1].forward(&work.attended, weights.linear(map), Activation::None, &mut work.projected);
                merge(&mut work.concat, &work.projected, &work.centres, table.columns(), hop);
                work.maps[2].forward(&work.concat, weights.linear(fc1), Activation::Relu, &mut work.rectified);
                work.maps[3].forward(&work.rectified, weights.linear(fc2), Activation::None, out);
            }
        }
    }

    fn backward(
        &mut self,
        cx: &Context<'_>,
        reads: Tables<'_>,
        grad: &mut PaddedRows,
        into: &mut TableGradients<'_>,
        gradients: &mut Gradients<'_>,
    ) {
        let AttentionStage { layer, work } = self;
        let (table, hop) = (reads.table(0), &cx.view.hops[layer.hop]);
        let of_table = into.table(0, table);
        layer.parts().into_iter().for_each(|parts| gradients.zero(parts.into_iter().flatten()));
        match &layer.maps {
            Maps::Conv { query, skip, .. } => {
                std::mem::swap(&mut work.attended_gradient, grad);
                layer.attend_backward(work, cx, query, table, of_table, gradients);
                let Work { maps, centres, attended_gradient, centres_gradient, .. } = work;
                let into = InputGradient::Add(centres_gradient);
                let weight = cx.weights.values(skip.weight);
                maps[1].backward(centres, weight, attended_gradient, gradients.map(skip), into);
                work.projections.split_gradients(gradients, layer.settings.width, layer.parts());
            }
            Maps::Residual { .. } => unreachable!("it has a stage of its own"),
            Maps::Paper { query, out, fc1, fc2, .. } => {
                layer.merge_backward(work, cx, grad, [out, fc1, fc2], gradients);
                layer.attend_backward(work, cx, query, table, of_table, gradients);
                work.projections.split_gradients(gradients, layer.settings.width, layer.parts());
                let (width, Work { centres_gradient, concat_gradient, sine, .. }) = (table.columns(), &mut *work);
                zero_time_backward(centres_gradient, width, sine, &layer.time, cx.weights, gradients);
                for row in 0..centres_gradient.rows() {
                    let of_centre = &concat_gradient.row(row)[layer.settings.width..];
                    add(&mut centres_gradient.row_mut(row)[..width], of_centre);
                }
            }
        }
        scatter(of_table, hop, &work.centres_gradient);
    }

    fn attention(&self) -> &[f32] {
        self.work.attention.weights()
    }
}
