//! Attention layers on a device.

use tempograph_kernels::Dropout;
use tempograph_kernels::cpu::Activation;
use tempograph_kernels::cube::{
    Attended, AttendedKept, Hop, Map, Matrix, Weight, attend, attend_backward, projection, projection_backward, table_backward, with_now,
    with_now_backward,
};
use tempograph_kernels::tensor::CubeRuntime;

/// An attention layer, in either form.
#[allow(clippy::large_enum_variant, reason = "a model has one or two of them")]
pub(super) enum Layer<R: CubeRuntime> {
    Paper(Paper<R>),
    Conv(Conv<R>),
}

/// The TGN authors' layer: see `PaperLayer`.
pub(super) struct Paper<R: CubeRuntime> {
    pub query: Map<R>,
    pub key: Map<R>,
    pub value: Map<R>,
    pub out: Map<R>,
    pub fc1: Map<R>,
    pub fc2: Map<R>,
    pub heads: usize,
}

/// PyG's layer: see `ConvLayer`.
pub(super) struct Conv<R: CubeRuntime> {
    pub query: Map<R>,
    pub key: Map<R>,
    pub value: Map<R>,
    pub edge: Weight<R>,
    pub skip: Map<R>,
    pub heads: usize,
}

/// What a layer keeps for its backward pass.
pub(super) struct Kept<R: CubeRuntime> {
    /// What queries are made from: the centres, with phi(0) behind them in the paper's form.
    asking: Matrix<R>,
    query: Matrix<R>,
    key: Matrix<R>,
    value: Matrix<R>,
    attended: Matrix<R>,
    attention: AttendedKept<R>,
    dropout: Option<Dropout>,
    /// Of the paper's form: `[attention | centre]` and what fc1 gave.
    merged: Option<[Matrix<R>; 2]>,
}

impl<R: CubeRuntime> Kept<R> {
    fn attended<'a>(&'a self, table: &'a Matrix<R>, time: &'a [Weight<R>; 2], heads: usize) -> Attended<'a, R> {
        Attended { table, query: &self.query, key: &self.key, value: &self.value, time, heads, dropout: self.dropout }
    }
}

impl<R: CubeRuntime> Layer<R> {
    /// Embeddings of the hop's centres, `[C, O]`, from the table below, `[rows, W]`.
    pub fn forward(&self, hop: &Hop<R>, table: &Matrix<R>, time: &[Weight<R>; 2], dropout: Option<Dropout>) -> (Matrix<R>, Kept<R>) {
        match self {
            Layer::Paper(layer) => layer.forward(hop, table, time, dropout),
            Layer::Conv(layer) => layer.forward(hop, table, time, dropout),
        }
    }

    /// Writes the gradients of the weights; gives that of the table below, from that of the embeddings.
    pub fn backward(&self, hop: &Hop<R>, table: &Matrix<R>, time: &[Weight<R>; 2], kept: &Kept<R>, grad: &Matrix<R>) -> Matrix<R> {
        match self {
            Layer::Paper(layer) => layer.backward(hop, table, time, kept, grad),
            Layer::Conv(layer) => layer.backward(hop, table, time, kept, grad),
        }
    }
}

impl<R: CubeRuntime> Paper<R> {
    fn forward(&self, hop: &Hop<R>, table: &Matrix<R>, time: &[Weight<R>; 2], dropout: Option<Dropout>) -> (Matrix<R>, Kept<R>) {
        let centres = hop.gather(table);
        let asking = with_now(&centres, &time[1]);
        let query = self.query.forward(&asking, Activation::None);
        let [key, value] = [&self.key, &self.value].map(|map| projection(hop, map, None, query.columns()));
        let by = Attended { table, query: &query, key: &key, value: &value, time, heads: self.heads, dropout };
        let (attended, attention) = attend(hop, by);
        let projected = self.out.forward(&attended, Activation::None);
        hop.mask(&projected);
        let merged = projected.beside(&centres);
        let rectified = self.fc1.forward(&merged, Activation::Relu);
        let out = self.fc2.forward(&rectified, Activation::None);
        (out, Kept { asking, query, key, value, attended, attention, dropout, merged: Some([merged, rectified]) })
    }

    fn backward(&self, hop: &Hop<R>, table: &Matrix<R>, time: &[Weight<R>; 2], kept: &Kept<R>, grad: &Matrix<R>) -> Matrix<R> {
        let [merged, rectified] = kept.merged.as_ref().unwrap_or_else(|| unreachable!("the paper's layer merges"));
        let width = kept.attended.columns();
        let of_merged = self.fc1.rectified_backward(merged, rectified, &self.fc2.backward(rectified, grad));
        let projected = of_merged.part(0, width);
        hop.mask(&projected);
        let of_attended = self.out.backward(&kept.attended, &projected);
        let gradients = attend_backward(hop, kept.attended(table, time, self.heads), &kept.attention, &of_attended);
        projection_backward(&gradients.key, &self.key, None);
        projection_backward(&gradients.value, &self.value, None);
        let of_asking = self.query.backward(&kept.asking, &gradients.query);
        with_now_backward(&of_asking, &time[1]);
        let centres = of_asking.part(0, table.columns());
        centres.add_part(&of_merged, width);
        table_backward(hop, &kept.attention, &gradients, &centres)
    }
}

impl<R: CubeRuntime> Conv<R> {
    fn forward(&self, hop: &Hop<R>, table: &Matrix<R>, time: &[Weight<R>; 2], dropout: Option<Dropout>) -> (Matrix<R>, Kept<R>) {
        let asking = hop.gather(table);
        let query = self.query.forward(&asking, Activation::None);
        let [key, value] = [&self.key, &self.value].map(|map| projection(hop, map, Some(&self.edge), query.columns()));
        let by = Attended { table, query: &query, key: &key, value: &value, time, heads: self.heads, dropout };
        let (attended, attention) = attend(hop, by);
        let out = self.skip.forward(&asking, Activation::None);
        out.add_part(&attended, 0);
        (out, Kept { asking, query, key, value, attended, attention, dropout, merged: None })
    }

    fn backward(&self, hop: &Hop<R>, table: &Matrix<R>, time: &[Weight<R>; 2], kept: &Kept<R>, grad: &Matrix<R>) -> Matrix<R> {
        let gradients = attend_backward(hop, kept.attended(table, time, self.heads), &kept.attention, grad);
        projection_backward(&gradients.key, &self.key, Some(&self.edge));
        projection_backward(&gradients.value, &self.value, Some(&self.edge));
        let centres = self.query.backward(&kept.asking, &gradients.query);
        centres.add_part(&self.skip.backward(&kept.asking, grad), 0);
        table_backward(hop, &kept.attention, &gradients, &centres)
    }
}
