//! Temporal graph attention: a layer from a table of rows to embeddings of a hop's centres.
//!
//! ```text
//! paper   q = Wq [s | phi(0)],  k = Wk [s_v | e | phi(dt)],  v = Wv [s_v | e | phi(dt)]      TGAT, TGN eq. 5-8
//!         z = fc2 relu(fc1 [Wo sum a v | s])
//! conv    q = Wq s,  k = Wk s_v + We [e | phi(dt)],  v = Wv s_v + We [e | phi(dt)]           PyG's TransformerConv
//!         z = sum a v + Ws s
//! ```
//!
//! Keys and values are never made: `q . (x Wk) = (Wk q) . x` and `sum a (x Wv) = (sum a x) Wv`, which changes nothing but the cost. A centre
//! without neighbours has an attention of zero.
#[cfg(feature = "cube")]
mod device;
mod slices;
mod tensors;

pub(crate) use slices::{Parts, Projections, attended_table, gather_with_now, now_backward, scatter};

use std::sync::Arc;

use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{Dropout, ScoreActivation};

use super::{Op, TimeEncoding};
use crate::executor::TensorContext;
use crate::operation::{Operation, Stage};
use crate::program::{Axis, Builder, HopSizes, Map, Products, Shape, StepSizes, Value};
use crate::settings::{AttentionForm, AttentionScores};

/// Slope below zero of [`AttentionScores::LeakyRelu`].
const LEAKY_SLOPE: f32 = 0.2;

/// Settings of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// The layer's form.
    pub form: AttentionForm,
    /// What `q . k` becomes before the softmax.
    pub scores: AttentionScores,
    /// Columns of the embeddings, `O`.
    pub width: usize,
    /// Heads `H`, which divide `O`.
    pub heads: usize,
    /// Share of the attention weights that a training step drops.
    pub dropout: f32,
}

/// The maps of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Maps {
    Paper { query: Map, key: Map, value: Map, out: Map, fc1: Map, fc2: Map },
    Conv { query: Map, key: Map, value: Map, edge: Map, skip: Map },
}

/// An attention layer.
#[derive(Clone, Debug)]
pub struct AttentionLayer {
    pub(crate) settings: Attention,
    pub(crate) maps: Maps,
    pub(crate) time: TimeEncoding,
    /// The hop whose centres it embeds.
    pub(crate) hop: usize,
    /// Which layer it is, the lowest first: its dropout is drawn apart from the others'.
    pub(crate) depth: usize,
    /// Columns of the table it reads, and of the edge features.
    pub(crate) input: usize,
    pub(crate) edge: usize,
}

impl Builder {
    /// Attention layer number `depth`, the lowest first, which embeds the centres of `hop` from the rows of `table`.
    pub fn attention(
        &mut self,
        name: &str,
        table: Value,
        (depth, hop): (usize, usize),
        time: TimeEncoding,
        settings: Attention,
    ) -> Value {
        let (input, edge, Attention { width, heads, form, .. }) = (self.width(table), self.edge(), settings);
        self.check(heads > 0 && width.is_multiple_of(heads), || {
            format!("model.heads = {heads} does not divide model.width = {width}")
        });
        self.look(hop);
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
        };
        let op = AttentionLayer { settings, maps, time, hop, depth, input, edge };
        self.push(name, Op::Attention(Arc::new(op)), &[table], Shape { axis: Axis::Centres(hop), width })
    }
}

impl AttentionLayer {
    /// What it does to its scores.
    pub(crate) fn activation(&self) -> ScoreActivation {
        match self.settings.scores {
            AttentionScores::Scaled => {
                ScoreActivation::Scaled(1.0 / ((self.settings.width / self.settings.heads) as f32).sqrt())
            }
            AttentionScores::LeakyRelu => ScoreActivation::LeakyRelu(LEAKY_SLOPE),
        }
    }

    /// What it drops under a training step's seed.
    pub(crate) fn dropout(&self, seed: Option<u64>) -> Option<Dropout> {
        let seed = seed.filter(|_| self.settings.dropout > 0.0)?;
        Some(Dropout { rate: self.settings.dropout, seed: seed.wrapping_add(self.depth as u64) })
    }
}

impl Operation for AttentionLayer {
    fn describe(&self) -> String {
        let form = match self.settings.form {
            AttentionForm::Paper => "paper",
            AttentionForm::TransformerConv => "transformer-conv",
        };
        format!("attention layer, {form}, {} heads", self.settings.heads)
    }

    fn stage(&self) -> Box<dyn Stage> {
        Box::new(slices::AttentionStage::new(self.clone()))
    }

    fn cost(&self, sizes: &StepSizes, products: &mut Products) {
        let HopSizes { centres, neighbours } = sizes.hop(self.hop);
        let (input, time, width) = (self.input, self.time.width, self.settings.width);
        let x = input + self.edge + time;
        products.map(centres, input, width, input);
        products.map(centres, width, x, width);
        products.attend(neighbours * self.settings.heads as f64, x, input + time);
        products.map(centres, x, width, x);
        match self.settings.form {
            AttentionForm::Paper => {
                products.map(1.0, time, width, time);
                products.map(centres, width, width, width);
                products.map(centres, width + input, width, width + input);
                products.map(centres, width, width, width);
            }
            AttentionForm::TransformerConv => products.map(centres, input, width, input),
        }
    }

    fn on_tape(&self, cx: &TensorContext<'_, CpuTape>, reads: &[Tensor<CpuTape, 2>]) -> Tensor<CpuTape, 2> {
        self.on_tensors(cx, &reads[0])
    }
}
