//! Temporal graph attention: a layer from a table of rows to embeddings of a hop's centres.
//!
//! ```text
//! paper   q = Wq [s | phi(0)],  k = Wk [s_v | e | phi(dt)],  v = Wv [s_v | e | phi(dt)]      TGAT, TGN eq. 5-8
//!         z = fc2 relu(fc1 [Wo sum a v | s])
//! conv    q = Wq s,  k = Wk s_v + We [e | phi(dt)],  v = Wv s_v + We [e | phi(dt)]           PyG's TransformerConv
//!         z = sum a v + Ws s
//! residual  q = Wq [s | phi(0)],  k = Wk [s_v | e | phi(dt)],  v = Wv [s_v | e | phi(dt)]    TGAT as DyGLib has it
//!         z = fc2 relu(fc1 [norm(drop(Wo sum a v) + [s | phi(0)]) | x])                      x the row s, or another of the centre
//! ```
//!
//! Keys and values are never computed: `q . (x Wk) = (Wk q) . x` and `sum a (x Wv) = (sum a x) Wv`, which changes only
//! the cost. A centre without neighbours has an attention of zero or, in the residual form, that of one neighbour of
//! zeros ([`EmptyNeighbourhood`]). Above the first layer, the row of such a neighbour is the lower layer's embedding of
//! a centre of zeros: it is the last row of that layer's table.
#[cfg(feature = "cube")]
mod device;
#[cfg(test)]
mod paper_tests;
mod residual;
mod slices;
mod tensors;

pub(crate) use slices::{Parts, Projections, attended_table, gather_with_zero_time, scatter, zero_time_backward};
pub(crate) use tensors::{join_heads, split_heads};

use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{Dropout, ScoreActivation};

use crate::operation::{
    Axis, Builder, HopSizes, Map, Operation, Param, Products, Shape, Stage, StepSizes, TensorContext, Value,
};
use crate::ops::tables::time::TimeEncoding;
use crate::settings::{AttentionForm, AttentionScores, EmptyNeighbourhood};

/// Slope below zero of [`AttentionScores::LeakyRelu`].
const LEAKY_SLOPE: f32 = 0.2;

/// Settings of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSettings {
    /// The layer's form.
    pub form: AttentionForm,
    /// The function applied to `q . k` before the softmax.
    pub scores: AttentionScores,
    /// Columns of the embeddings, `O`.
    pub width: usize,
    /// Heads `H`, which divide `O` or, in the residual form, the columns of a centre with its time.
    pub heads: usize,
    /// Share of the attention weights that a training step drops; in the residual form also of the attention's output.
    pub dropout: f32,
    /// What a centre without neighbours attends to in the residual form.
    pub alone: EmptyNeighbourhood,
}

/// The maps of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Maps {
    Paper { query: Map, key: Map, value: Map, out: Map, fc1: Map, fc2: Map },
    Conv { query: Map, key: Map, value: Map, edge: Map, skip: Map },
    Residual { query: Map, key: Map, value: Map, out: Map, norm: [Param; 2], fc1: Map, fc2: Map },
}

/// An attention layer.
#[derive(Clone, Debug)]
pub struct AttentionLayer {
    pub(crate) settings: AttentionSettings,
    pub(crate) maps: Maps,
    pub(crate) time: TimeEncoding,
    /// The hop whose centres it embeds.
    pub(crate) hop: usize,
    /// Number of the layer, the lowest first. The dropout of each layer is drawn separately.
    pub(crate) depth: usize,
    /// Columns of the table it reads, and of the edge features.
    pub(crate) input: usize,
    pub(crate) edge: usize,
    /// Columns of queries and keys.
    pub(crate) inner: usize,
    /// Columns of the rows that the merge layer reads besides the attention.
    pub(crate) merge_width: usize,
}

impl Builder {
    /// Attention layer number `depth`, the lowest first. It embeds the centres of `hop` from the rows of `table`.
    pub fn attention(
        &mut self,
        name: &str,
        table: Value,
        depth_and_hop: (usize, usize),
        time: TimeEncoding,
        settings: AttentionSettings,
    ) -> Value {
        self.attention_with_merge_rows(name, [table, table], depth_and_hop, time, settings)
    }

    /// The same, but the residual form merges the centre's row of `merge_rows`, a table of nodes, not of `table`.
    pub fn attention_with_merge_rows(
        &mut self,
        name: &str,
        [table, merge_rows]: [Value; 2],
        (depth, hop): (usize, usize),
        time: TimeEncoding,
        settings: AttentionSettings,
    ) -> Value {
        let (input, edge, AttentionSettings { width, heads, form, alone, .. }) =
            (self.width(table), self.edge_width(), settings);
        let inner = if form == AttentionForm::Residual { input + time.width } else { width };
        self.check(heads > 0 && inner.is_multiple_of(heads.max(1)), || match form {
            AttentionForm::Residual => {
                format!("model.heads = {heads} does not divide {inner}, the columns of a row ({input}) and of a time")
            }
            _ => format!("model.heads = {heads} does not divide model.width = {width}"),
        });
        let (other, axis) = (merge_rows != table, self.axis(merge_rows));
        self.check(!other || (axis, form) == (Axis::Nodes, AttentionForm::Residual), || {
            format!("a residual attention layer reads rows of nodes beside its own, not of {axis}")
        });
        let merge_width = self.width(merge_rows);
        self.needs.age |= (alone, form) == (EmptyNeighbourhood::Padding, AttentionForm::Residual);
        self.require_neighbours(hop);
        let seen = input + edge + time.width;
        let mut map = |part: &str, inputs, outputs, bias| {
            self.parameters.linear(&format!("{name}.{part}"), inputs, outputs, bias)
        };
        let maps = match form {
            AttentionForm::Paper => Maps::Paper {
                query: map("query", input + time.width, width, true),
                key: map("key", seen, width, true),
                value: map("value", seen, width, true),
                out: map("out", width, width, true),
                fc1: map("fc1", width + input, width, true),
                fc2: map("fc2", width, width, true),
            },
            AttentionForm::TransformerConv => Maps::Conv {
                query: map("lin_query", input, width, true),
                key: map("lin_key", input, width, true),
                value: map("lin_value", input, width, true),
                edge: map("lin_edge", edge + time.width, width, false),
                skip: map("lin_skip", input, width, true),
            },
            AttentionForm::Residual => {
                let [query, key, value] = [("query", inner), ("key", seen), ("value", seen)]
                    .map(|(part, columns)| map(part, columns, inner, false));
                let out = map("out", inner, inner, true);
                let [fc1, fc2] = [("fc1", inner + merge_width), ("fc2", width)]
                    .map(|(part, columns)| map(part, columns, width, true));
                let norm = self.parameters.norm(&format!("{name}.norm"), inner);
                Maps::Residual { query, key, value, out, norm, fc1, fc2 }
            }
        };
        let op = AttentionLayer { settings, maps, time, hop, depth, input, edge, inner, merge_width };
        let reads = if other { &[table, merge_rows][..] } else { &[table] };
        self.push(name, op, reads, Shape { axis: Axis::Centres(hop), width })
    }
}

impl AttentionLayer {
    /// The activation of its scores.
    pub(crate) fn activation(&self) -> ScoreActivation {
        match self.settings.scores {
            AttentionScores::Scaled => {
                ScoreActivation::Scaled(1.0 / ((self.inner / self.settings.heads) as f32).sqrt())
            }
            AttentionScores::LeakyRelu => ScoreActivation::LeakyRelu(LEAKY_SLOPE),
        }
    }

    /// Dropout on attention weights with a training step's seed.
    pub(crate) fn dropout(&self, seed: Option<u64>) -> Option<Dropout> {
        let seed = seed.filter(|_| self.settings.dropout > 0.0)?;
        Some(Dropout { rate: self.settings.dropout, seed: seed.wrapping_add(self.depth as u64) })
    }

    /// Dropout on the attention's output in the residual form.
    pub(crate) fn output_dropout(&self, seed: Option<u64>) -> Option<Dropout> {
        crate::ops::tables::dropout::of_rows(self.settings.dropout, seed, self.depth as u64)
    }

    /// Whether centres without neighbours attend to a neighbour of zeros.
    pub(crate) fn attends_to_padding(&self) -> bool {
        matches!(self.maps, Maps::Residual { .. }) && self.settings.alone == EmptyNeighbourhood::Padding
    }

    /// Whether its table ends with the row of a centre of zeros, for the layer above.
    pub(crate) fn appends_padding_row(&self) -> bool {
        self.attends_to_padding() && self.hop > 0
    }
}

impl Operation for AttentionLayer {
    fn describe(&self) -> String {
        let form = match self.settings.form {
            AttentionForm::Paper => "paper",
            AttentionForm::TransformerConv => "transformer-conv",
            AttentionForm::Residual => "residual",
        };
        format!("attention layer, {form}, {} heads", self.settings.heads)
    }

    fn attention_heads(&self) -> Option<usize> {
        Some(self.settings.heads)
    }

    fn stage(&self) -> Box<dyn Stage> {
        match self.maps {
            Maps::Residual { .. } => Box::new(residual::ResidualStage::new(self.clone())),
            _ => Box::new(slices::AttentionStage::new(self.clone())),
        }
    }

    fn has_dropout(&self) -> bool {
        self.settings.dropout > 0.0
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let HopSizes { centres, neighbours } = sizes.hop(self.hop);
        let (input, time, width, inner) = (self.input, self.time.width, self.settings.width, self.inner);
        let x = input + self.edge + time;
        products.map(centres, input, inner, input);
        products.map(centres, inner, x, inner);
        products.attend(neighbours * self.settings.heads as f64, x, input + time);
        products.map(centres, x, inner, x);
        match self.settings.form {
            AttentionForm::Paper => {
                products.map(1.0, time, width, time);
                products.map(centres, width, width, width);
                products.map(centres, width + input, width, width + input);
                products.map(centres, width, width, width);
            }
            AttentionForm::TransformerConv => products.map(centres, input, width, input),
            AttentionForm::Residual => {
                products.map(1.0, time, inner, time);
                products.map(centres, inner, inner, inner);
                products.map(centres, inner + self.merge_width, width, inner + self.merge_width);
                products.map(centres, width, width, width);
            }
        }
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, reads)
    }
}
