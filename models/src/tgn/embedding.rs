//! The embedding module (TGN section 3.1): from memories and neighbours to what a node is at a time.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::activation::relu;
use tempograph_framework::{Hop, View};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};
use tempograph_kernels::{
    AttentionPlan, Dropout, ScoreActivation, TemporalOps, gather_rows, product, temporal_attention, time_encode,
};

use super::memory::TimeEncoder;
use super::spec::{Attention, Embedding, TgnSpec};
use crate::layers::{Init, Linear};

/// The embedding module: its layers, farthest hop first. The time encoding is the memory's own.
#[derive(Module, Debug)]
pub(crate) struct Embedder<B: Backend> {
    layers: Vec<Layer<B>>,
    #[module(skip)]
    dropout: f32,
}

/// One layer, from a table of rows to embeddings of a hop's centres.
#[allow(clippy::large_enum_variant, reason = "a model has one or two of them, made once")]
#[derive(Module, Debug)]
pub(crate) enum Layer<B: Backend> {
    Paper(PaperLayer<B>),
    Conv(ConvLayer<B>),
    Sum(SumLayer<B>),
    Time(TimeProjection<B>),
}

impl<B: Backend> Embedder<B> {
    pub fn new(spec: &TgnSpec, edge: usize, init: &mut Init<B>) -> Embedder<B> {
        let layer = |depth: usize, init: &mut Init<B>| {
            let shape = Shape {
                input: if depth == 0 { spec.hidden_width() } else { spec.width },
                edge,
                time: spec.time,
                width: spec.width,
                heads: spec.heads,
                activation: spec.score_activation(),
            };
            match (spec.embedding, spec.attention) {
                (Embedding::Attention, Attention::Paper) => Layer::Paper(PaperLayer::new(shape, init)),
                (Embedding::Attention, Attention::TransformerConv) => Layer::Conv(ConvLayer::new(shape, init)),
                (Embedding::Sum, _) => Layer::Sum(SumLayer::new(shape, init)),
                (Embedding::Time | Embedding::Identity, _) => Layer::Time(TimeProjection::new(spec, init)),
            }
        };
        let depth = match spec.embedding {
            Embedding::Attention | Embedding::Sum => spec.layers,
            Embedding::Time => 1,
            Embedding::Identity => 0,
        };
        Embedder { layers: (0..depth).map(|d| layer(d, init)).collect(), dropout: spec.dropout }
    }
}

impl<B: TemporalOps> Embedder<B> {
    /// Embeddings of the view's top table, `[C, O]`, from the hidden rows of its nodes, `[U, D]`.
    pub fn forward(
        &self,
        hidden: Tensor<B, 2>,
        time: &TimeEncoder<B>,
        view: &View,
        dropout: Option<u64>,
    ) -> Tensor<B, 2> {
        if let ([], Some(hop)) = (&self.layers[..], view.hops.first()) {
            return gather_rows(hidden, hop.centres.clone());
        }
        let hops = view.hops.iter().rev();
        self.layers.iter().zip(hops).enumerate().fold(hidden, |table, (depth, (layer, hop))| {
            let look = Reading { hop, view, time, dropout: self.dropout_of(depth, dropout) };
            match layer {
                Layer::Paper(layer) => layer.forward(table, &look),
                Layer::Conv(layer) => layer.forward(table, &look),
                Layer::Sum(layer) => layer.forward(table, &look),
                Layer::Time(layer) => layer.forward(table, &look),
            }
        })
    }

    fn dropout_of(&self, depth: usize, seed: Option<u64>) -> Option<Dropout> {
        let seed = seed.filter(|_| self.dropout > 0.0)?;
        Some(Dropout { rate: self.dropout, seed: seed.wrapping_add(depth as u64) })
    }
}

/// What a layer reads beside its table.
struct Reading<'a, B: Backend> {
    hop: &'a Hop,
    view: &'a View,
    time: &'a TimeEncoder<B>,
    dropout: Option<Dropout>,
}

impl<B: TemporalOps> Reading<'_, B> {
    fn centres(&self, table: &Tensor<B, 2>) -> Tensor<B, 2> {
        gather_rows(table.clone(), self.hop.centres.clone())
    }

    /// phi(0), `[1, T]`.
    fn now(&self) -> Tensor<B, 2> {
        time_encode(&[0.0], self.time.freq.val(), self.time.phase.val())
    }

    /// The fused kernel: `query` `[H, C, X]` against `x = [row | e | phi(dt) | 1]` of each neighbour, giving `sum a x`, `[H, C, X]`.
    fn attend(&self, table: Tensor<B, 2>, query: Tensor<B, 3>, activation: ScoreActivation) -> Tensor<B, 3> {
        let plan = AttentionPlan {
            neighbours: self.hop.neighbours.clone(),
            features: self.view.edge_features.clone(),
            activation,
            dropout: self.dropout,
        };
        temporal_attention(Arc::new(plan), table, query, self.time.freq.val(), self.time.phase.val())
    }

    /// One value for each centre, `[C, 1]`.
    fn column(&self, of: impl Fn(usize) -> f32, device: &B::Device) -> Tensor<B, 2> {
        let values: Vec<f32> = (0..self.hop.centres.len()).map(of).collect();
        Tensor::from_data(TensorData::new(values, [self.hop.centres.len(), 1]), device)
    }
}

/// Widths of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub input: usize,
    pub edge: usize,
    pub time: usize,
    pub width: usize,
    pub heads: usize,
    pub activation: ScoreActivation,
}

/// `[C, O] -> [H, C, O/H]`.
fn split_heads<B: Backend>(x: Tensor<B, 2>, heads: usize) -> Tensor<B, 3> {
    let [rows, width] = x.dims();
    x.reshape([rows, heads, width / heads]).swap_dims(0, 1)
}

/// `[H, C, O/H] -> [C, O]`.
fn join_heads<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    let [heads, rows, width] = x.dims();
    x.swap_dims(0, 1).reshape([rows, heads * width])
}

/// Attention with the key weights moved to the query and the value weights behind the sum, which changes nothing but the cost:
/// `q . (x Wk) = (Wk q) . x` and `sum a (x Wv) = (sum a x) Wv`. `key` and `value` are `[O, X]`, biases in the last column.
fn attention<B: TemporalOps>(
    reading: &Reading<'_, B>,
    table: Tensor<B, 2>,
    query: Tensor<B, 2>,
    key: Tensor<B, 2>,
    value: Tensor<B, 2>,
    (heads, activation): (usize, ScoreActivation),
) -> Tensor<B, 2> {
    let [width, columns] = key.dims();
    let per_head = width / heads;
    let query = product(split_heads(query, heads), key.reshape([heads, per_head, columns]));
    let seen = reading.attend(table, query, activation);
    join_heads(product(seen, value.reshape([heads, per_head, columns]).swap_dims(1, 2)))
}

/// The TGN authors' layer: `MultiheadAttention(q = [s | phi(0)], k = v = [s_v | e | phi(dt)])`, then
/// `fc2 relu(fc1 [attention | s])`. A centre without neighbours has an attention of zero.
#[derive(Module, Debug)]
pub(crate) struct PaperLayer<B: Backend> {
    query: Linear<B>,
    key: Linear<B>,
    value: Linear<B>,
    out: Linear<B>,
    fc1: Linear<B>,
    fc2: Linear<B>,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    activation: ScoreActivation,
}

impl<B: Backend> PaperLayer<B> {
    pub fn new(shape: Shape, init: &mut Init<B>) -> PaperLayer<B> {
        let Shape { input, edge, time, width, heads, activation } = shape;
        PaperLayer {
            query: Linear::new(init, input + time, width, true),
            key: Linear::new(init, input + edge + time, width, true),
            value: Linear::new(init, input + edge + time, width, true),
            out: Linear::new(init, width, width, true),
            fc1: Linear::new(init, width + input, width, true),
            fc2: Linear::new(init, width, width, true),
            heads,
            activation,
        }
    }
}

impl<B: TemporalOps> PaperLayer<B> {
    fn forward(&self, table: Tensor<B, 2>, reading: &Reading<'_, B>) -> Tensor<B, 2> {
        let centres = reading.centres(&table);
        let now = reading.now().repeat_dim(0, centres.dims()[0]);
        let query = self.query.forward(Tensor::cat(vec![centres.clone(), now], 1));
        let attended = attention(
            reading,
            table,
            query,
            self.key.augmented(),
            self.value.augmented(),
            (self.heads, self.activation),
        );
        let found = reading.column(|c| f32::from(u8::from(reading.hop.neighbours.count[c] > 0)), &centres.device());
        let attended = self.out.forward(attended) * found;
        self.fc2.forward(relu(self.fc1.forward(Tensor::cat(vec![attended, centres], 1))))
    }
}

/// PyG's `TransformerConv`: keys and values share one map of `[e | phi(dt)]`, a skip connection adds the centre.
#[derive(Module, Debug)]
pub(crate) struct ConvLayer<B: Backend> {
    lin_query: Linear<B>,
    lin_key: Linear<B>,
    lin_value: Linear<B>,
    lin_edge: Linear<B>,
    lin_skip: Linear<B>,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    activation: ScoreActivation,
}

impl<B: Backend> ConvLayer<B> {
    pub fn new(shape: Shape, init: &mut Init<B>) -> ConvLayer<B> {
        let Shape { input, edge, time, width, heads, activation } = shape;
        ConvLayer {
            lin_query: Linear::new(init, input, width, true),
            lin_key: Linear::new(init, input, width, true),
            lin_value: Linear::new(init, input, width, true),
            lin_edge: Linear::new(init, edge + time, width, false),
            lin_skip: Linear::new(init, input, width, true),
            heads,
            activation,
        }
    }
}

impl<B: TemporalOps> ConvLayer<B> {
    fn forward(&self, table: Tensor<B, 2>, reading: &Reading<'_, B>) -> Tensor<B, 2> {
        let centres = reading.centres(&table);
        let query = self.lin_query.forward(centres.clone());
        let with_edge = |lin: &Linear<B>| {
            let bias = lin.bias.as_ref().map(|bias| bias.val().unsqueeze_dim(1));
            Tensor::cat(
                [Some(lin.weight.val()), Some(self.lin_edge.weight.val()), bias].into_iter().flatten().collect(),
                1,
            )
        };
        let attended = attention(
            reading,
            table,
            query,
            with_edge(&self.lin_key),
            with_edge(&self.lin_value),
            (self.heads, self.activation),
        );
        attended + self.lin_skip.forward(centres)
    }
}

/// Temporal graph sum, TGN eq. 9-10: `h = relu(sum_v W1 [s_v | e | phi(dt)])`, `z = W2 [h | s | phi(0)]`.
#[derive(Module, Debug)]
pub(crate) struct SumLayer<B: Backend> {
    neighbour: Linear<B>,
    merge: Linear<B>,
}

impl<B: Backend> SumLayer<B> {
    pub fn new(shape: Shape, init: &mut Init<B>) -> SumLayer<B> {
        let Shape { input, edge, time, width, .. } = shape;
        SumLayer {
            neighbour: Linear::new(init, input + edge + time, width, true),
            merge: Linear::new(init, width + input + time, width, true),
        }
    }
}

impl<B: TemporalOps> SumLayer<B> {
    fn forward(&self, table: Tensor<B, 2>, reading: &Reading<'_, B>) -> Tensor<B, 2> {
        let centres = reading.centres(&table);
        let map = self.neighbour.augmented();
        let (rows, columns, device) = (centres.dims()[0], map.dims()[1], centres.device());
        // A query of zero attends evenly: the kernel gives the mean, the number of neighbours makes it the sum.
        let mean = reading.attend(table, Tensor::zeros([1, rows, columns], &device), ScoreActivation::Scaled(1.0));
        let sum = mean.squeeze_dim::<2>(0) * reading.column(|c| reading.hop.neighbours.count[c] as f32, &device);
        let seen = relu(product(sum, map.transpose()));
        let now = reading.now().repeat_dim(0, rows);
        self.merge.forward(Tensor::cat(vec![seen, centres, now], 1))
    }
}

/// JODIE's projection, `z = (1 + dt w) * s`, with `dt` in units of the spec's `time_scale`.
#[derive(Module, Debug)]
pub(crate) struct TimeProjection<B: Backend> {
    drift: Param<Tensor<B, 1>>,
    #[module(skip)]
    scale: f32,
}

impl<B: Backend> TimeProjection<B> {
    pub fn new(spec: &TgnSpec, init: &mut Init<B>) -> TimeProjection<B> {
        let bound = 1.0 / (spec.memory as f32).sqrt();
        TimeProjection { drift: init.uniform([spec.memory], bound), scale: spec.time_scale.unwrap_or(1.0) as f32 }
    }
}

impl<B: TemporalOps> TimeProjection<B> {
    fn forward(&self, table: Tensor<B, 2>, reading: &Reading<'_, B>) -> Tensor<B, 2> {
        let centres = reading.centres(&table);
        let idle = reading.column(|c| reading.hop.idle[c] / self.scale, &centres.device());
        let growth = product(idle, self.drift.val().unsqueeze()) + 1.0;
        centres * growth
    }
}

#[cfg(test)]
#[path = "paper_golden.rs"]
mod paper_golden;
