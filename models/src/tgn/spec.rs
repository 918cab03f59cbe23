//! What a spec may say about a TGN.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Combine, Delta, Lookup, MailRule, Needs, OtherMemory, Sampler};
use tempograph_kernels::ScoreActivation;

use crate::disttgl::{StaticSpec, Wiring};

/// Slope below zero of [`AttentionScores::LeakyRelu`].
const LEAKY_SLOPE: f32 = 0.2;

/// Settings of a TGN; what is left out has the default shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TgnSpec {
    /// Memory width `D` (100).
    pub memory: usize,
    /// Time encoding width `T` (100).
    pub time: usize,
    /// How the time encoding begins: `log-spaced` (the paper) or `uniform` (PyG).
    pub time_init: TimeInit,
    /// Message function: `identity` or `mlp`.
    pub message: Message,
    /// Mail combiner: `last` or `mean`.
    pub mail: Combine,
    /// Which memory of the other end a message carries: `at-event` (the paper) or `at-read` (PyG).
    pub mail_memory: OtherMemory,
    /// Whether nodes that never had mail go through the updater with a zero message, as in PyG (false).
    pub update_without_mail: bool,
    /// Memory updater: `gru` or `rnn`.
    pub updater: Updater,
    /// Embedding: `attention`, `sum`, `time` (JODIE's projection) or `identity`.
    pub embedding: Embedding,
    /// Form of the attention layer: `paper` or `transformer-conv` (PyG).
    pub attention: Attention,
    /// What `q . k` becomes before the softmax: `scaled` or `leaky-relu` (TGL, DistTGL).
    pub attention_scores: AttentionScores,
    /// Embedding layers, 1 or 2 (1); `time` and `identity` have none.
    pub layers: usize,
    /// Embedding width `O` (100).
    pub width: usize,
    /// Attention heads `H` (2); divides `width`.
    pub heads: usize,
    /// Neighbours `K` a root sees (10).
    pub neighbours: usize,
    /// What matrix products round their inputs to: nothing with `f32`, `tf32` on GPUs that have such units (the CPU then computes in f32), or
    /// `bf16`, on the CPU where it has AVX-512 BF16 (`f32`).
    pub precision: Precision,
    /// Dropout on attention weights (0.1).
    pub dropout: f32,
    /// Neighbour sampler: `recent`, `uniform`, or `{ window = TICKS }`, which draws from the last so many ticks.
    pub sampler: Sampler,
    /// What a query sees of its own batch: `exact`, `ordered` or `batch`.
    pub history: Lookup,
    /// Time shown with a neighbour: `since-event` (the paper) or `since-update` (PyG).
    pub time_delta: Delta,
    /// Whether the decoder reads facts about the pair: recency, repetition, popularity (false).
    pub pair_features: bool,
    /// Ticks that count as one for `embedding = "time"`; left out, the mean time between a source's events in the training split.
    pub time_scale: Option<f64>,
    /// DistTGL's static memory (off).
    #[serde(rename = "static")]
    pub static_memory: StaticSpec,
}

impl Default for TgnSpec {
    fn default() -> TgnSpec {
        TgnSpec {
            memory: 100,
            time: 100,
            time_init: TimeInit::LogSpaced,
            message: Message::Identity,
            mail: Combine::Last,
            mail_memory: OtherMemory::AtEvent,
            update_without_mail: false,
            updater: Updater::Gru,
            embedding: Embedding::Attention,
            attention: Attention::Paper,
            attention_scores: AttentionScores::Scaled,
            layers: 1,
            width: 100,
            heads: 2,
            neighbours: 10,
            precision: Precision::F32,
            dropout: 0.1,
            sampler: Sampler::Recent,
            history: Lookup::Exact,
            time_delta: Delta::SinceEvent,
            pair_features: false,
            time_scale: None,
            static_memory: StaticSpec::default(),
        }
    }
}

/// Precision of the numbers matrix products read; sums are in single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    F32,
    /// TF32, 10 bits behind the binary point, on GPUs; single precision on the CPU.
    Tf32,
    /// bfloat16: on the CPU in forward products and gradients of inputs, on GPUs in all.
    Bf16,
}

#[cfg(feature = "cube")]
impl From<Precision> for tempograph_kernels::cube::Products {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Tf32 => Self::Tf32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl From<Precision> for tempograph_kernels::cpu::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 | Precision::Tf32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// Message function (TGN eq. 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The raw message itself.
    Identity,
    /// Two linear maps with a ReLU between, to the memory's width.
    Mlp,
}

/// Memory updater (TGN eq. 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Updater {
    /// Gated recurrent unit.
    Gru,
    /// Vanilla recurrent cell (tanh), as in JODIE and DyRep.
    Rnn,
}

/// Embedding module (TGN section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// Temporal graph attention, eq. 5-8.
    Attention,
    /// Temporal graph sum, eq. 9-10.
    Sum,
    /// JODIE's time projection, `(1 + dt w) * s`.
    Time,
    /// The memory itself.
    Identity,
}

/// Form of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attention {
    /// Multi-head attention and a merge layer, the TGN authors' form.
    Paper,
    /// PyG's `TransformerConv` with a skip connection.
    TransformerConv,
}

/// What the product of query and key becomes before the softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionScores {
    /// `q . k / sqrt(O / H)`.
    Scaled,
    /// `LeakyReLU(q . k)`, not scaled, with slope 0.2 below zero: TGL's attention.
    LeakyRelu,
}

/// Initial frequencies and phases of the time encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeInit {
    /// Frequencies 1 to 1e-9, evenly spaced in the logarithm; phases 0 (TGAT, TGN).
    LogSpaced,
    /// Both uniform in ±1 (PyG's `Linear(1, T)`).
    Uniform,
}

impl TgnSpec {
    /// What the settings ask of a history.
    pub fn needs(&self) -> Needs {
        let hops = match self.embedding {
            Embedding::Attention | Embedding::Sum => self.layers,
            Embedding::Time => 1,
            Embedding::Identity => usize::from(self.pair_features),
        };
        let seen = matches!(self.embedding, Embedding::Attention | Embedding::Sum) || self.pair_features;
        Needs {
            memory: self.memory,
            mail: MailRule {
                combine: self.mail,
                other: self.mail_memory,
                update_without_mail: self.update_without_mail,
            },
            neighbours: if seen { self.neighbours } else { 0 },
            layers: hops,
            sampler: self.sampler,
            lookup: self.history,
            delta: self.time_delta,
            idle: self.embedding == Embedding::Time,
            pairs: self.pair_features,
        }
    }

    /// Whether all of it can be computed on slices ([`SliceTgn`](crate::SliceTgn)).
    ///
    /// # Errors
    /// What cannot.
    pub fn on_slices(&self) -> Result<(), &'static str> {
        let unknown = [
            (self.message != Message::Identity, "message maps (model.message = \"mlp\")"),
            (self.mail != Combine::Last, "means of mails (model.mail = \"mean\")"),
            (self.embedding == Embedding::Sum, "sums of neighbours (model.embedding = \"sum\")"),
        ];
        unknown.into_iter().find(|(is, _)| *is).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// Says what cannot be built, naming the key and its value.
    ///
    /// # Errors
    /// A sentence for each of: a width of zero, heads that do not divide the width, layers out of range, dropout out of `0..1`, an empty window.
    pub fn check(&self) -> Result<(), String> {
        for (key, value) in [("memory", self.memory), ("time", self.time), ("width", self.width), ("heads", self.heads)]
        {
            if value == 0 {
                return Err(format!("model.{key} is 0; it must be at least 1"));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(format!("model.heads = {} does not divide model.width = {}", self.heads, self.width));
        }
        if !(1..=2).contains(&self.layers) {
            return Err(format!("model.layers = {}; it is 1 or 2", self.layers));
        }
        if !tempograph_kernels::cpu::Precision::from(self.precision).available() {
            return Err(
                "model.precision = \"bf16\"; this processor has no AVX-512 BF16 instructions, or TEMPOGRAPH_CPU keeps to others".into(),
            );
        }
        if self.precision == Precision::Bf16
            && let Err(what) = self.on_slices()
        {
            return Err(format!("model.precision = \"bf16\" does not go with {what}"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!("model.dropout = {}; it lies in 0 <= dropout < 1", self.dropout));
        }
        if let Sampler::Window(ticks @ ..=0) = self.sampler {
            return Err(format!("model.sampler = {{ window = {ticks} }}; it must be at least 1 tick"));
        }
        if self.time_scale.is_some_and(|scale| scale.is_nan() || scale <= 0.0) {
            return Err(format!("model.time_scale = {:?}; it must be positive", self.time_scale));
        }
        if self.static_memory.how == Wiring::Concat && !matches!(self.embedding, Embedding::Attention | Embedding::Sum)
        {
            return Err("model.static.how = \"concat\" goes with embedding = \"attention\" or \"sum\"; with the others use \"add\"".into());
        }
        self.static_memory.check()
    }

    /// What an attention layer does to its scores.
    pub(crate) fn score_activation(&self) -> ScoreActivation {
        match self.attention_scores {
            AttentionScores::Scaled => ScoreActivation::Scaled(1.0 / ((self.width / self.heads) as f32).sqrt()),
            AttentionScores::LeakyRelu => ScoreActivation::LeakyRelu(LEAKY_SLOPE),
        }
    }

    /// Width of what embeddings start from: the memory, and static memory where it stands behind.
    pub(crate) fn hidden_width(&self) -> usize {
        self.memory + if self.static_memory.how == Wiring::Concat { self.static_memory.width } else { 0 }
    }

    /// Width of what the decoder reads.
    pub(crate) fn embedding_width(&self) -> usize {
        match self.embedding {
            Embedding::Attention | Embedding::Sum => self.width,
            Embedding::Time | Embedding::Identity => self.memory,
        }
    }
}
