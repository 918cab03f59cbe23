//! Attention layers on a device.

use tempograph_kernels::cube::{
    Attended, AttendedKept, Block, ByHead, Hop, Matrix, NormBlock, NormGradients, Normed, ResidualNorm, TimeEncoding,
    TimeShares, Weight, Weights, asking, attend, attend_backward, merge, merge_backward, rectified, rectified_backward,
    share_edge, share_edge_backward, table_backward, with_one,
};
use tempograph_kernels::tensor::CubeRuntime;
use tempograph_kernels::{Dropout, ScoreActivation};

use crate::executor::{Back, DeviceContext, DeviceStage, Laying, Shares, TimeSlot, through};
use crate::ops::layers::attention::{AttentionLayer, Maps};
use crate::ops::tables::centres::{nodes_at, nodes_at_backward};

#[derive(Debug)]
struct LayerStage {
    op: AttentionLayer,
    form: Form,
    time: TimeSlot,
}

/// Where the weights of a layer stand.
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
    /// Query, and below it the skip connection.
    asking: Block,
    /// With columns for the edge's map, which has none of its own here.
    key: Block,
    value: Block,
    edge: Block,
    heads: usize,
}

#[derive(Clone, Copy, Debug)]
struct Residual {
    /// Query, key and value have no bias, and nothing stands behind their columns.
    query: Block,
    key: Block,
    value: Block,
    out: Block,
    norm: NormBlock,
    fc1: Block,
    fc2: Block,
    heads: usize,
    /// Columns of a centre with its time, and of those that are merged with it.
    inner: usize,
    beside: usize,
    /// Columns that keys and values are made of.
    seen: usize,
}

/// What a layer reads.
struct Below<'a, R: CubeRuntime> {
    weights: &'a Weights<R>,
    hop: &'a Hop<R>,
    /// `[rows, W]`
    table: Matrix<R>,
    time: &'a TimeEncoding<R>,
    activation: ScoreActivation,
    dropout: Option<Dropout>,
    /// Of what comes behind the attention of a residual layer.
    behind: Option<Dropout>,
    /// The nodes' rows that a residual layer merges instead of its own, and the hops between.
    beside: Option<(Matrix<R>, &'a [Hop<R>])>,
}

/// What a layer keeps for its backward pass.
struct Kept<R: CubeRuntime> {
    /// What queries are made from: the centres, with phi(0) behind them in the paper's form.
    asking: Matrix<R>,
    query: ByHead<R>,
    attention: AttendedKept<R>,
    /// Of the forms that merge.
    merged: Option<Merged<R>>,
    /// Of the residual form.
    normed: Option<Normed<R>>,
}

/// What a layer keeps of its merge layer.
struct Merged<R: CubeRuntime> {
    attended: Matrix<R>,
    /// `[attention | centre]`, or what a residual layer merges.
    merged: Matrix<R>,
    /// What fc1 gave.
    rectified: Matrix<R>,
}

impl AttentionLayer {
    pub(crate) fn device_stage<R: CubeRuntime>(&self, laying: &mut Laying<'_>) -> Box<dyn DeviceStage<R>> {
        let heads = self.settings.heads;
        let form = match &self.maps {
            Maps::Paper { query, key, value, out, fc1, fc2 } => {
                let [query, key, value, out, fc1, fc2] = [query, key, value, out, fc1, fc2].map(|map| laying.map(map));
                Form::Paper(Paper { query, key, value, out, fc1, fc2, heads })
            }
            Maps::Conv { query, key, value, edge, skip } => {
                let (width, input, seen) = (query.outputs, query.inputs, query.inputs + edge.inputs);
                let asking = laying.layout.block(2 * width, with_one(input));
                laying.stand(asking, query, 0, input);
                laying.stand(asking, skip, width, input);
                let [key, value] = [key, value].map(|map| {
                    let block = laying.layout.block(width, with_one(seen));
                    laying.stand(block, map, 0, seen);
                    block
                });
                let edges = laying.layout.block(width, edge.inputs);
                laying.stand(edges, edge, 0, 0);
                Form::Conv(Conv { asking, key, value, edge: edges, heads })
            }
            Maps::Residual { query, key, value, out, norm, fc1, fc2 } => {
                let (inner, beside, seen) = (self.inner, self.beside, key.inputs);
                let [query, key, value, out] = [query, key, value, out].map(|map| laying.map(map));
                let from = norm.map(|param| laying.begin(param));
                let norm = NormBlock::stand(&mut laying.layout, inner, from);
                let [fc1, fc2] = [fc1, fc2].map(|map| laying.map(map));
                Form::Residual(Residual { query, key, value, out, norm, fc1, fc2, heads, inner, beside, seen })
            }
        };
        Box::new(LayerStage { op: self.clone(), form, time: laying.time(&self.time) })
    }
}

impl LayerStage {
    fn hop<'a, R: CubeRuntime>(&self, cx: &DeviceContext<'a, R>) -> &'a Hop<R> {
        cx.hop(self.op.hop).unwrap_or_else(|| unreachable!("a past has the hops that layers attend to"))
    }

    /// The hops from the nodes up to its own.
    fn hops<'a, R: CubeRuntime>(&self, cx: &DeviceContext<'a, R>) -> &'a [Hop<R>] {
        let hops = cx.past.hops();
        &hops[..hops.len() - self.op.hop]
    }
}

impl<R: CubeRuntime> DeviceStage<R> for LayerStage {
    fn forward<'a>(&'a self, cx: DeviceContext<'a, R>, reads: Vec<Matrix<R>>) -> (Matrix<R>, Back<'a, R>) {
        let below = Below {
            weights: cx.weights,
            hop: self.hop(&cx),
            table: reads[0].clone(),
            time: cx.time(self.time),
            activation: self.op.activation(),
            dropout: self.op.dropout(cx.dropout),
            behind: self.op.dropout_behind(cx.dropout),
            beside: reads.get(1).map(|rows| (rows.clone(), self.hops(&cx))),
        };
        let (embedded, kept) = match &self.form {
            Form::Paper(layer) => layer.forward(&below),
            Form::Conv(layer) => layer.forward(&below),
            Form::Residual(layer) => layer.forward(&below),
        };
        let back = move |grad: &Matrix<R>, shares: &mut Shares<R>| {
            let time = shares.of(self.time);
            match &self.form {
                Form::Paper(layer) => vec![layer.backward(&below, &kept, grad, time)],
                Form::Conv(layer) => vec![layer.backward(&below, &kept, grad, time)],
                Form::Residual(layer) => layer.backward(&below, &kept, grad, time),
            }
        };
        (embedded, Box::new(back))
    }

    fn shares(&self, cx: &DeviceContext<'_, R>) -> Option<(TimeSlot, usize)> {
        Some((self.time, self.hop(cx).len()))
    }
}

impl<R: CubeRuntime> Below<'_, R> {
    fn attended<'a>(&'a self, query: &'a ByHead<R>, [key, value]: [&'a Weight<R>; 2]) -> Attended<'a, R> {
        let Below { table, time, activation, dropout, .. } = self;
        Attended { table, query, key, value, time, activation: *activation, dropout: *dropout }
    }
}

impl Paper {
    fn forward<R: CubeRuntime>(&self, below: &Below<'_, R>) -> (Matrix<R>, Kept<R>) {
        let (at, hop) = (|block| below.weights.at(block), below.hop);
        let asking = asking(hop, &below.table, Some(below.time));
        let query = ByHead::mapped(&at(self.query), &asking, self.heads);
        let (attended, attention) = attend(hop, below.attended(&query, [&at(self.key), &at(self.value)]));
        let attended = attended.joined();
        let merged = merge(hop, &at(self.out).forward(&attended), &asking, below.table.columns());
        let rectified = rectified(&at(self.fc1).forward(&merged), true);
        let out = at(self.fc2).forward(&rectified);
        (out, Kept { asking, query, attention, merged: Some(Merged { attended, merged, rectified }), normed: None })
    }

    fn backward<R: CubeRuntime>(
        &self,
        below: &Below<'_, R>,
        kept: &Kept<R>,
        grad: &Matrix<R>,
        time: &mut TimeShares<R>,
    ) -> Matrix<R> {
        let (at, hop, width) = (|block| below.weights.at(block), below.hop, grad.columns());
        let Kept { asking, query, attention, merged, .. } = kept;
        let Merged { attended, merged, rectified } =
            merged.as_ref().unwrap_or_else(|| unreachable!("the paper's layer merges"));
        let of_rectified = through(&at(self.fc2), rectified, grad);
        let of_merged = through(&at(self.fc1), merged, &rectified_backward(&of_rectified, rectified, width));
        let of_attended = through(&at(self.out), attended, &merge_backward(hop, &of_merged, width));
        let projections = [at(self.key), at(self.value)];
        let by = below.attended(query, projections.each_ref());
        let (of_query, gradients) = attend_backward(hop, by, attention, &of_attended);
        let of_asking = through(&at(self.query), asking, &of_query.joined_alone());
        table_backward(hop, attention, &gradients, (&of_asking, true), Some((&of_merged, width)), time)
    }
}

impl Conv {
    /// Key and value, which have the edge's map in their middle.
    fn projections<R: CubeRuntime>(&self, weights: &Weights<R>) -> [Weight<R>; 2] {
        [self.key, self.value].map(|block| weights.at(block))
    }

    fn forward<R: CubeRuntime>(&self, below: &Below<'_, R>) -> (Matrix<R>, Kept<R>) {
        let (hop, projections, input) = (below.hop, self.projections(below.weights), below.table.columns());
        let [key, value] = projections.each_ref();
        let asking = asking(hop, &below.table, None);
        let asked = below.weights.at(self.asking).forward(&asking);
        let width = asked.columns() / 2;
        let query = ByHead::split(&asked, self.heads, width);
        share_edge(&below.weights.at(self.edge), [key, value], input);
        let (attended, attention) = attend(hop, below.attended(&query, [key, value]));
        (attended.joined_and(&asked, width), Kept { asking, query, attention, merged: None, normed: None })
    }

    fn backward<R: CubeRuntime>(
        &self,
        below: &Below<'_, R>,
        kept: &Kept<R>,
        grad: &Matrix<R>,
        time: &mut TimeShares<R>,
    ) -> Matrix<R> {
        let (hop, projections, input) = (below.hop, self.projections(below.weights), below.table.columns());
        let [key, value] = projections.each_ref();
        let Kept { asking, query, attention, .. } = kept;
        let (of_query, gradients) = attend_backward(hop, below.attended(query, [key, value]), attention, grad);
        share_edge_backward(&below.weights.at(self.edge), [key, value], input);
        let of_asking = through(&below.weights.at(self.asking), asking, &of_query.joined_beside(grad));
        table_backward(hop, attention, &gradients, (&of_asking, false), None, time)
    }
}

impl Residual {
    fn forward<R: CubeRuntime>(&self, below: &Below<'_, R>) -> (Matrix<R>, Kept<R>) {
        let (at, hop) = (|block| below.weights.at(block), below.hop);
        let asking = asking(hop, &below.table, Some(below.time));
        let query = ByHead::mapped(&at(self.query), &asking, self.heads);
        let (attended, attention) = attend(hop, below.attended(&query, [&at(self.key), &at(self.value)]));
        let attended = attended.joined();
        let norm = ResidualNorm::at(below.weights, self.norm, below.behind);
        let beside = below.beside.as_ref().map(|(rows, hops)| nodes_at(hops, rows));
        let beside = beside.as_ref().unwrap_or(&asking);
        let (merged, normed) = norm.forward(&at(self.out).forward(&attended), &asking, (beside, self.beside));
        let rectified = rectified(&at(self.fc1).forward(&merged), true);
        let out = at(self.fc2).forward(&rectified);
        let merged = Some(Merged { attended, merged, rectified });
        (out, Kept { asking, query, attention, merged, normed: Some(normed) })
    }

    /// The gradient of the table, and where other rows are merged of their table, too.
    fn backward<R: CubeRuntime>(
        &self,
        below: &Below<'_, R>,
        kept: &Kept<R>,
        grad: &Matrix<R>,
        time: &mut TimeShares<R>,
    ) -> Vec<Matrix<R>> {
        let (at, hop) = (|block| below.weights.at(block), below.hop);
        let Kept { asking, query, attention, merged: Some(merged), normed: Some(normed) } = kept else {
            unreachable!("a residual layer norms and merges")
        };
        let Merged { attended, merged, rectified } = merged;
        let of_rectified = through(&at(self.fc2), rectified, grad);
        let of_rectified = rectified_backward(&of_rectified, rectified, grad.columns());
        let of_merged = through(&at(self.fc1), merged, &of_rectified);
        let norm = ResidualNorm::at(below.weights, self.norm, below.behind);
        let NormGradients { one, other } = norm.backward(normed, &of_merged);
        let of_attended = through(&at(self.out), attended, &one);
        let [asked, key, value] = [self.query, self.key, self.value].map(at);
        let (of_query, gradients) =
            attend_backward(hop, below.attended(query, [&key, &value]), attention, &of_attended);
        let of_asking = through(&asked, asking, &of_query.joined_alone()).plus(&other, self.inner);
        // a 1 stands behind what they read, and no bias
        for (map, columns) in [(&asked, self.inner), (&key, self.seen), (&value, self.seen)] {
            map.clear_part(0..self.inner, columns..with_one(columns));
        }
        let own = below.beside.is_none().then_some((&of_merged, self.inner));
        let of_table = table_backward(hop, attention, &gradients, (&of_asking, true), own, time);
        let beside = below.beside.as_ref();
        let of_beside = beside.map(|(_, hops)| nodes_at_backward(hops, &of_merged, self.inner, self.beside));
        std::iter::once(of_table).chain(of_beside).collect()
    }
}
