//! Attention layers on a device.

use tempograph_kernels::cube::{
    Attended, AttendedKept, Block, ByHead, Hop, Matrix, TimeEncoding, TimeShares, Weight, Weights, asking, attend,
    attend_backward, merge, merge_backward, rectified, rectified_backward, share_edge, share_edge_backward,
    table_backward,
};
use tempograph_kernels::tensor::CubeRuntime;
use tempograph_kernels::{Dropout, ScoreActivation};

/// Where the weights of an attention layer stand, in either form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layer {
    Paper(Paper),
    Conv(Conv),
}

/// The TGN authors' layer: see `PaperLayer`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paper {
    pub query: Block,
    pub key: Block,
    pub value: Block,
    pub out: Block,
    pub fc1: Block,
    pub fc2: Block,
    pub heads: usize,
}

/// PyG's layer: see `ConvLayer`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conv {
    /// Query, and below it the skip connection.
    pub asking: Block,
    /// With columns for the edge's map, which has none of its own here.
    pub key: Block,
    pub value: Block,
    pub edge: Block,
    pub heads: usize,
}

/// What a layer reads.
pub(super) struct Below<'a, R: CubeRuntime> {
    pub weights: &'a Weights<R>,
    pub hop: &'a Hop<R>,
    /// `[rows, W]`
    pub table: &'a Matrix<R>,
    pub time: &'a TimeEncoding<R>,
    pub activation: ScoreActivation,
    pub dropout: Option<Dropout>,
}

/// What a layer keeps for its backward pass.
pub(super) struct Kept<R: CubeRuntime> {
    /// What queries are made from: the centres, with phi(0) behind them in the paper's form.
    asking: Matrix<R>,
    query: ByHead<R>,
    attention: AttendedKept<R>,
    /// Of the paper's form.
    merged: Option<Merged<R>>,
}

/// What the paper's form keeps of its merge layer.
struct Merged<R: CubeRuntime> {
    attended: Matrix<R>,
    /// `[attention | centre]`
    merged: Matrix<R>,
    /// What fc1 gave.
    rectified: Matrix<R>,
}

impl<R: CubeRuntime> Below<'_, R> {
    fn attended<'a>(&'a self, query: &'a ByHead<R>, [key, value]: [&'a Weight<R>; 2]) -> Attended<'a, R> {
        let Below { table, time, activation, dropout, .. } = *self;
        Attended { table, query, key, value, time, activation, dropout }
    }
}

impl Layer {
    /// Embeddings of the hop's centres, `[C, O]`.
    pub fn forward<R: CubeRuntime>(&self, below: &Below<'_, R>) -> (Matrix<R>, Kept<R>) {
        match self {
            Layer::Paper(layer) => layer.forward(below),
            Layer::Conv(layer) => layer.forward(below),
        }
    }

    /// Writes the gradients of the weights; gives that of the table below, from that of the embeddings. Those of the time encoding go to `time`.
    pub fn backward<R: CubeRuntime>(
        &self,
        below: &Below<'_, R>,
        kept: &Kept<R>,
        grad: &Matrix<R>,
        time: &mut TimeShares<R>,
    ) -> Matrix<R> {
        match self {
            Layer::Paper(layer) => layer.backward(below, kept, grad, time),
            Layer::Conv(layer) => layer.backward(below, kept, grad, time),
        }
    }
}

impl Paper {
    fn forward<R: CubeRuntime>(&self, below: &Below<'_, R>) -> (Matrix<R>, Kept<R>) {
        let (at, hop) = (|block| below.weights.at(block), below.hop);
        let asking = asking(hop, below.table, Some(below.time));
        let query = ByHead::mapped(&at(self.query), &asking, self.heads);
        let (attended, attention) = attend(hop, below.attended(&query, [&at(self.key), &at(self.value)]));
        let attended = attended.joined();
        let merged = merge(hop, &at(self.out).forward(&attended), &asking, below.table.columns());
        let rectified = rectified(&at(self.fc1).forward(&merged), true);
        let out = at(self.fc2).forward(&rectified);
        (out, Kept { asking, query, attention, merged: Some(Merged { attended, merged, rectified }) })
    }

    fn backward<R: CubeRuntime>(
        &self,
        below: &Below<'_, R>,
        kept: &Kept<R>,
        grad: &Matrix<R>,
        time: &mut TimeShares<R>,
    ) -> Matrix<R> {
        let (at, hop, width) = (|block| below.weights.at(block), below.hop, grad.columns());
        let Kept { asking, query, attention, merged } = kept;
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
        let asking = asking(hop, below.table, None);
        let asked = below.weights.at(self.asking).forward(&asking);
        let width = asked.columns() / 2;
        let query = ByHead::split(&asked, self.heads, width);
        share_edge(&below.weights.at(self.edge), [key, value], input);
        let (attended, attention) = attend(hop, below.attended(&query, [key, value]));
        (attended.joined_and(&asked, width), Kept { asking, query, attention, merged: None })
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

/// Writes the gradient of a map; gives that of what it has read.
fn through<R: CubeRuntime>(map: &Weight<R>, read: &Matrix<R>, grad: &Matrix<R>) -> Matrix<R> {
    map.backward(read, grad);
    map.backward_input(grad)
}
