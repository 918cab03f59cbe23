//! Attention layers on a device.

use tempograph_kernels::cube::{
    AttentionInputs, Block, ByHead, Hop, Matrix, NormBlock, NormGradients, ResidualNorm, SavedAttention, SavedNorm,
    TimeEncoding, TimeGradientPartials, Weight, Weights, attend, attend_backward, merge, merge_backward, query_rows,
    relu, relu_backward, share_edge, share_edge_backward, table_backward, with_one,
};
use tempograph_kernels::tensor::CubeRuntime;
use tempograph_kernels::{Dropout, ScoreActivation};

use crate::operation::{
    BackwardFn, DeviceContext, DeviceStage, LayoutBuilder, TimeGradients, TimeSlot, linear_backward,
};
use crate::ops::layers::attention::{AttentionLayer, Maps};
use crate::ops::tables::centres::{gather_centre_rows, gather_centre_rows_backward};

#[derive(Debug)]
struct LayerStage {
    op: AttentionLayer,
    form: Form,
    time: TimeSlot,
}

/// The positions of a layer's weights.
#[derive(Clone, Copy, Debug)]
enum Form {
    Paper(Paper),
    Conv(Conv),
    Residual(Residual),
}

#[derive(Clone, Copy, Debug)]
struct Paper {
    query: Block,
    key: Block,
    value: Block,
    out: Block,
    fc1: Block,
    fc2: Block,
    heads: usize,
}

#[derive(Clone, Copy, Debug)]
struct Conv {
    /// Query, and in the rows after it the skip connection.
    query_rows: Block,
    /// With extra columns for the edge's map: the layer copies it there before each pass.
    key: Block,
    value: Block,
    edge: Block,
    heads: usize,
}

#[derive(Clone, Copy, Debug)]
struct Residual {
    /// Query, key and value have no bias. No column follows theirs.
    query: Block,
    key: Block,
    value: Block,
    out: Block,
    norm: NormBlock,
    fc1: Block,
    fc2: Block,
    heads: usize,
    /// Columns of a centre with its time, and of the rows merged with it.
    inner: usize,
    merge_width: usize,
    /// Columns of a neighbour, from which keys and values are computed.
    seen: usize,
}

/// The inputs of a layer.
struct LayerInputs<'a, R: CubeRuntime> {
    weights: &'a Weights<R>,
    hop: &'a Hop<R>,
    /// `[rows, W]`
    table: Matrix<R>,
    time: &'a TimeEncoding<R>,
    activation: ScoreActivation,
    dropout: Option<Dropout>,
    /// Dropout on the attention's output of a residual layer.
    behind: Option<Dropout>,
    /// The nodes' rows that a residual layer merges instead of its own, and the hops between.
    merge_rows: Option<(Matrix<R>, &'a [Hop<R>])>,
}

/// The activations that a layer saves for its backward pass.
struct SavedActivations<R: CubeRuntime> {
    /// The input of the queries: the centres, followed by phi(0) in the paper's form.
    query_rows: Matrix<R>,
    query: ByHead<R>,
    attention: SavedAttention<R>,
    /// Only in the forms that merge.
    merged: Option<Merged<R>>,
    /// Only in the residual form.
    normed: Option<SavedNorm<R>>,
}

/// The activations that a layer saves of its merge layer.
struct Merged<R: CubeRuntime> {
    attended: Matrix<R>,
    /// `[attention | centre]`, or the rows that a residual layer merges.
    merged: Matrix<R>,
    /// The output of fc1 after ReLU.
    rectified: Matrix<R>,
}

impl AttentionLayer {
    pub(crate) fn device_stage<R: CubeRuntime>(
        &self,
        layout_builder: &mut LayoutBuilder<'_>,
    ) -> Box<dyn DeviceStage<R>> {
        let heads = self.settings.heads;
        let form = match &self.maps {
            Maps::Paper { query, key, value, out, fc1, fc2 } => {
                let [query, key, value, out, fc1, fc2] =
                    [query, key, value, out, fc1, fc2].map(|map| layout_builder.map(map));
                Form::Paper(Paper { query, key, value, out, fc1, fc2, heads })
            }
            Maps::Conv { query, key, value, edge, skip } => {
                let (width, input, seen) = (query.outputs, query.inputs, query.inputs + edge.inputs);
                let query_rows = layout_builder.layout.block(2 * width, with_one(input));
                layout_builder.assign(query_rows, query, 0, input);
                layout_builder.assign(query_rows, skip, width, input);
                let [key, value] = [key, value].map(|map| {
                    let block = layout_builder.layout.block(width, with_one(seen));
                    layout_builder.assign(block, map, 0, seen);
                    block
                });
                let edges = layout_builder.layout.block(width, edge.inputs);
                layout_builder.assign(edges, edge, 0, 0);
                Form::Conv(Conv { query_rows, key, value, edge: edges, heads })
            }
            Maps::Residual { query, key, value, out, norm, fc1, fc2 } => {
                let (inner, merge_width, seen) = (self.inner, self.merge_width, key.inputs);
                let [query, key, value, out] = [query, key, value, out].map(|map| layout_builder.map(map));
                let from = norm.map(|param| layout_builder.offset(param));
                let norm = NormBlock::allocate(&mut layout_builder.layout, inner, from);
                let [fc1, fc2] = [fc1, fc2].map(|map| layout_builder.map(map));
                Form::Residual(Residual { query, key, value, out, norm, fc1, fc2, heads, inner, merge_width, seen })
            }
        };
        Box::new(LayerStage { op: self.clone(), form, time: self.time.device_slot(layout_builder) })
    }
}

impl LayerStage {
    fn hop<'a, R: CubeRuntime>(&self, cx: &DeviceContext<'a, R>) -> &'a Hop<R> {
        cx.hop(self.op.hop).unwrap_or_else(|| unreachable!("a past has the hops that layers attend to"))
    }

    /// The hops from the nodes up to the layer's own.
    fn hops<'a, R: CubeRuntime>(&self, cx: &DeviceContext<'a, R>) -> &'a [Hop<R>] {
        let hops = cx.past.hops();
        &hops[..hops.len() - self.op.hop]
    }
}

impl<R: CubeRuntime> DeviceStage<R> for LayerStage {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, BackwardFn<'a, R>) {
        let inputs = LayerInputs {
            weights: cx.weights,
            hop: self.hop(&cx),
            table: reads[0].clone(),
            time: cx.time(self.time),
            activation: self.op.activation(),
            dropout: self.op.dropout(cx.dropout),
            behind: self.op.output_dropout(cx.dropout),
            merge_rows: reads.get(1).map(|rows| (rows.clone(), self.hops(&cx))),
        };
        let (embedded, kept) = match &self.form {
            Form::Paper(layer) => layer.forward(&inputs),
            Form::Conv(layer) => layer.forward(&inputs),
            Form::Residual(layer) => layer.forward(&inputs),
        };
        let back = move |grad: &Matrix<R>, shares: &mut TimeGradients<R>| {
            let time = shares.of(self.time);
            match &self.form {
                Form::Paper(layer) => vec![layer.backward(&inputs, &kept, grad, time)],
                Form::Conv(layer) => vec![layer.backward(&inputs, &kept, grad, time)],
                Form::Residual(layer) => layer.backward(&inputs, &kept, grad, time),
            }
        };
        (embedded, Box::new(back))
    }

    fn time_gradient_rows(&self, cx: &DeviceContext<'_, R>) -> Option<(TimeSlot, usize)> {
        Some((self.time, self.hop(cx).len()))
    }
}

impl<R: CubeRuntime> LayerInputs<'_, R> {
    fn attended<'a>(&'a self, query: &'a ByHead<R>, [key, value]: [&'a Weight<R>; 2]) -> AttentionInputs<'a, R> {
        let LayerInputs { table, time, activation, dropout, .. } = self;
        AttentionInputs { table, query, key, value, time, activation: *activation, dropout: *dropout }
    }
}

impl Paper {
    fn forward<R: CubeRuntime>(&self, inputs: &LayerInputs<'_, R>) -> (Matrix<R>, SavedActivations<R>) {
        let (at, hop) = (|block| inputs.weights.at(block), inputs.hop);
        let query_rows = query_rows(hop, &inputs.table, Some(inputs.time));
        let query = ByHead::mapped(&at(self.query), &query_rows, self.heads);
        let (attended, attention) = attend(hop, inputs.attended(&query, [&at(self.key), &at(self.value)]));
        let attended = attended.joined();
        let merged = merge(hop, &at(self.out).forward(&attended), &query_rows, inputs.table.columns());
        let rectified = relu(&at(self.fc1).forward(&merged), true);
        let out = at(self.fc2).forward(&rectified);
        (
            out,
            SavedActivations {
                query_rows,
                query,
                attention,
                merged: Some(Merged { attended, merged, rectified }),
                normed: None,
            },
        )
    }

    fn backward<R: CubeRuntime>(
        &self,
        inputs: &LayerInputs<'_, R>,
        kept: &SavedActivations<R>,
        grad: &Matrix<R>,
        time: &mut TimeGradientPartials<R>,
    ) -> Matrix<R> {
        let (at, hop, width) = (|block| inputs.weights.at(block), inputs.hop, grad.columns());
        let SavedActivations { query_rows, query, attention, merged, .. } = kept;
        let Merged { attended, merged, rectified } =
            merged.as_ref().unwrap_or_else(|| unreachable!("the paper's layer merges"));
        let of_rectified = linear_backward(&at(self.fc2), rectified, grad);
        let of_merged = linear_backward(&at(self.fc1), merged, &relu_backward(&of_rectified, rectified, width));
        let of_attended = linear_backward(&at(self.out), attended, &merge_backward(hop, &of_merged, width));
        let projections = [at(self.key), at(self.value)];
        let by = inputs.attended(query, projections.each_ref());
        let (of_query, gradients) = attend_backward(hop, by, attention, &of_attended);
        let of_query_rows = linear_backward(&at(self.query), query_rows, &of_query.joined_alone());
        table_backward(hop, attention, &gradients, (&of_query_rows, true), Some((&of_merged, width)), time)
    }
}

impl Conv {
    /// Key and value, with the edge's map in their middle columns.
    fn projections<R: CubeRuntime>(&self, weights: &Weights<R>) -> [Weight<R>; 2] {
        [self.key, self.value].map(|block| weights.at(block))
    }

    fn forward<R: CubeRuntime>(&self, inputs: &LayerInputs<'_, R>) -> (Matrix<R>, SavedActivations<R>) {
        let (hop, projections, input) = (inputs.hop, self.projections(inputs.weights), inputs.table.columns());
        let [key, value] = projections.each_ref();
        let query_rows = query_rows(hop, &inputs.table, None);
        let asked = inputs.weights.at(self.query_rows).forward(&query_rows);
        let width = asked.columns() / 2;
        let query = ByHead::split(&asked, self.heads, width);
        share_edge(&inputs.weights.at(self.edge), [key, value], input);
        let (attended, attention) = attend(hop, inputs.attended(&query, [key, value]));
        (
            attended.joined_plus(&asked, width),
            SavedActivations { query_rows, query, attention, merged: None, normed: None },
        )
    }

    fn backward<R: CubeRuntime>(
        &self,
        inputs: &LayerInputs<'_, R>,
        kept: &SavedActivations<R>,
        grad: &Matrix<R>,
        time: &mut TimeGradientPartials<R>,
    ) -> Matrix<R> {
        let (hop, projections, input) = (inputs.hop, self.projections(inputs.weights), inputs.table.columns());
        let [key, value] = projections.each_ref();
        let SavedActivations { query_rows, query, attention, .. } = kept;
        let (of_query, gradients) = attend_backward(hop, inputs.attended(query, [key, value]), attention, grad);
        share_edge_backward(&inputs.weights.at(self.edge), [key, value], input);
        let of_query_rows =
            linear_backward(&inputs.weights.at(self.query_rows), query_rows, &of_query.joined_concat(grad));
        table_backward(hop, attention, &gradients, (&of_query_rows, false), None, time)
    }
}

impl Residual {
    fn forward<R: CubeRuntime>(&self, inputs: &LayerInputs<'_, R>) -> (Matrix<R>, SavedActivations<R>) {
        let (at, hop) = (|block| inputs.weights.at(block), inputs.hop);
        let query_rows = query_rows(hop, &inputs.table, Some(inputs.time));
        let query = ByHead::mapped(&at(self.query), &query_rows, self.heads);
        let (attended, attention) = attend(hop, inputs.attended(&query, [&at(self.key), &at(self.value)]));
        let attended = attended.joined();
        let norm = ResidualNorm::at(inputs.weights, self.norm, inputs.behind);
        let merge_rows = inputs.merge_rows.as_ref().map(|(rows, hops)| gather_centre_rows(hops, rows));
        let merge_rows = merge_rows.as_ref().unwrap_or(&query_rows);
        let (merged, normed) =
            norm.forward(&at(self.out).forward(&attended), &query_rows, (merge_rows, self.merge_width));
        let rectified = relu(&at(self.fc1).forward(&merged), true);
        let out = at(self.fc2).forward(&rectified);
        let merged = Some(Merged { attended, merged, rectified });
        (out, SavedActivations { query_rows, query, attention, merged, normed: Some(normed) })
    }

    /// The gradient of the table, and that of the merge rows if these come from another table.
    fn backward<R: CubeRuntime>(
        &self,
        inputs: &LayerInputs<'_, R>,
        kept: &SavedActivations<R>,
        grad: &Matrix<R>,
        time: &mut TimeGradientPartials<R>,
    ) -> Vec<Matrix<R>> {
        let (at, hop) = (|block| inputs.weights.at(block), inputs.hop);
        let SavedActivations { query_rows, query, attention, merged: Some(merged), normed: Some(normed) } = kept else {
            unreachable!("a residual layer norms and merges")
        };
        let Merged { attended, merged, rectified } = merged;
        let of_rectified = linear_backward(&at(self.fc2), rectified, grad);
        let of_rectified = relu_backward(&of_rectified, rectified, grad.columns());
        let of_merged = linear_backward(&at(self.fc1), merged, &of_rectified);
        let norm = ResidualNorm::at(inputs.weights, self.norm, inputs.behind);
        let NormGradients { one, other } = norm.backward(normed, &of_merged);
        let of_attended = linear_backward(&at(self.out), attended, &one);
        let [asked, key, value] = [self.query, self.key, self.value].map(at);
        let (of_query, gradients) =
            attend_backward(hop, inputs.attended(query, [&key, &value]), attention, &of_attended);
        let of_query_rows = linear_backward(&asked, query_rows, &of_query.joined_alone()).plus(&other, self.inner);
        // the inputs end with a 1, but these maps have no bias
        for (map, columns) in [(&asked, self.inner), (&key, self.seen), (&value, self.seen)] {
            map.clear_part(0..self.inner, columns..with_one(columns));
        }
        let own = inputs.merge_rows.is_none().then_some((&of_merged, self.inner));
        let of_table = table_backward(hop, attention, &gradients, (&of_query_rows, true), own, time);
        let merge_rows = inputs.merge_rows.as_ref();
        let of_merge_rows =
            merge_rows.map(|(_, hops)| gather_centre_rows_backward(hops, &of_merged, self.inner, self.merge_width));
        std::iter::once(of_table).chain(of_merge_rows).collect()
    }
}
