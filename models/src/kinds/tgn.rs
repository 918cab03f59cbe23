//! TGN: "Temporal Graph Networks for Deep Learning on Dynamic Graphs", Rossi et al., 2020 (arXiv:2006.10637).
//!
//! ```text
//! m_u(t)  = msg(s_u(t-), s_v(t-), e_uv, phi(t - t_u))          message of an event at one end        eq. 1, 2
//! m_u     = agg(m_u(t_1), ..., m_u(t_b))                       mail combiner: last, mean             eq. 3
//! s_u(t)  = mem(m_u, s_u(t-))                                  updater: GRU, RNN                     eq. 3
//! z_u(t)  = emb(s_u, {s_v, e_uv, phi(t - t_e)} of N_u(t))      attention, sum, time, identity        eq. 4-9
//! phi(dt) = cos(dt w + b)                                      time encoding, as in TGAT
//! p(u, v) = f2 relu(f1 [z_u | z_v])                            link decoder
//! ```
//!
//! Differs:
//! - the attention's inner width is that of the embedding, not `D + T`;
//! - node features enter through a learned map into the memory's width, so their own width is free;
//! - messages have no feature columns if the log has no features;
//! - the decoder may also read facts about the pair ([`PairFact`](tempograph_framework::PairFact)), which the paper
//!   does not have, and TPNet's features of temporal walks (`walks.rs`);
//! - the decoder may also read common neighbours, as TNCN does (`tncn.rs`);
//! - `attention = "transformer-conv"` is PyG's example: a skip connection instead of the merge layer;
//! - `attention_scores = "leaky-relu"` is TGL's and DistTGL's: `LeakyReLU(q . k)` instead of `q . k / sqrt(O / H)`;
//! - `attention = "residual"` is DyGLib's: as wide inside as `D + T`, a residual connection and a layer norm before the
//!   merge layer;
//! - `deliver = { to = "neighbours", .. }` also sends mail to neighbours of the ends, as DyGNN propagates interactions;
//! - embeddings may start from static memory as well (`static_memory/`).

use serde::{Deserialize, Serialize};
use tempograph_framework::{Combine, Delta, Lookup, MailRule, OtherMemory, Sampler};

use crate::operation::{Builder, NeighbourSettings};
use crate::ops::layers::attention::AttentionSettings;
use crate::ops::layers::projection::{IdleNormalisation, TimeProjectionSettings};
use crate::ops::memory::MemoryUpdateSettings;
use crate::program::{ModelKind, Outputs};
use crate::settings;
use crate::settings::{
    AttentionForm, AttentionScores, DatasetStats, EmptyNeighbourhood, MailDelivery, Message, Precision,
    StaticMemoryMode, StaticSpec, TimeInit, Updater, WalkSpec, walks,
};

/// Settings of a TGN. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TgnSpec {
    /// Memory width `D` (100).
    pub memory: usize,
    /// Time encoding width `T` (100).
    pub time: usize,
    /// Initialisation of the time encoding: `log-spaced` (the paper) or `uniform` (PyG).
    pub time_init: TimeInit,
    /// Message function: `identity` or `mlp`.
    pub message: Message,
    /// Mail combiner: `last` or `mean`.
    pub mail: Combine,
    /// Which nodes get the mail of an event: its `ends`, or also some of their neighbours (`{ to = "ends" }`).
    pub deliver: MailDelivery,
    /// Which memory of the other end a message carries: `at-event` (the paper) or `at-read` (PyG).
    pub mail_memory: OtherMemory,
    /// Whether nodes that never had mail go through the updater with a zero message, as in PyG (false).
    pub update_without_mail: bool,
    /// Memory updater: `gru` or `rnn`.
    pub updater: Updater,
    /// Embedding: `attention`, `sum`, `time` (JODIE's projection) or `identity`.
    pub embedding: Embedding,
    /// Form of the attention layer: `paper`, `transformer-conv` (PyG) or `residual` (DyGLib).
    pub attention: AttentionForm,
    /// What `q . k` becomes before the softmax: `scaled` or `leaky-relu` (TGL, DistTGL).
    pub attention_scores: AttentionScores,
    /// Embedding layers, 1 or 2 (1); `time` and `identity` have none.
    pub layers: usize,
    /// Embedding width `O` (100).
    pub width: usize,
    /// Attention heads `H` (2); divides `width` or, with `residual`, the width of a row plus that of a time.
    pub heads: usize,
    /// Neighbours `K` of a root (10).
    pub neighbours: usize,
    /// Precision of the inputs of matrix products (`f32`): `f32`, `tf32` on GPUs that have such units (the CPU then
    /// computes in f32), or `bf16`, on the CPU if it has AVX-512 BF16.
    pub precision: Precision,
    /// Dropout on attention weights (0.1).
    pub dropout: f32,
    /// Neighbour sampler: `recent`, `uniform`, or `{ window = TICKS }`, which samples from the last so many ticks.
    pub sampler: Sampler,
    /// Which events of its own batch a query sees: `exact`, `ordered` or `batch`.
    pub history: Lookup,
    /// Time shown with a neighbour: `since-event` (the paper) or `since-update` (PyG).
    pub time_delta: Delta,
    /// Whether the decoder reads facts about the pair: recency, repetition, popularity (false).
    pub pair_features: bool,
    /// Whether the decoder reads common neighbours: the sum of the rows of the nodes that are neighbours of both ends,
    /// and their number (false).
    pub common_neighbours: bool,
    /// Features of the temporal walks of both ends, which the decoder reads, as in TPNet (off).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walks: Option<WalkSpec>,
    /// Ticks that count as one for `embedding = "time"`; if missing, the mean time between a source's events in the
    /// training split.
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
            deliver: MailDelivery::Ends,
            mail_memory: OtherMemory::AtEvent,
            update_without_mail: false,
            updater: Updater::Gru,
            embedding: Embedding::Attention,
            attention: AttentionForm::Paper,
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
            common_neighbours: false,
            walks: None,
            time_scale: None,
            static_memory: StaticSpec::default(),
        }
    }
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

impl ModelKind for TgnSpec {
    const KIND: &'static str = "tgn";
    const ABOUT: &'static str = "memory, mail and temporal attention; every part can be changed";
    const PAPER: &'static str = "Rossi et al., 2020, arXiv:2006.10637";
    const TEMPLATE: &'static str = include_str!("tgn.toml");

    fn check(&self) -> Result<(), String> {
        let TgnSpec { memory, time, width, heads, layers, .. } = *self;
        settings::check_at_least_one(&[("memory", memory), ("time", time), ("width", width), ("heads", heads)])?;
        settings::check_layers(layers)?;
        self.precision.check()?;
        settings::check_share("dropout", self.dropout)?;
        settings::check_window(self.sampler)?;
        settings::check_time_scale(self.time_scale)?;
        self.deliver.check()?;
        walks::check(self.walks.as_ref())?;
        if self.static_memory.how == StaticMemoryMode::Concat
            && !matches!(self.embedding, Embedding::Attention | Embedding::Sum)
        {
            return Err("model.static.how = \"concat\" goes with embedding = \"attention\" or \"sum\"; with the others use \"add\"".into());
        }
        self.static_memory.check()
    }

    fn complete(&mut self, facts: &DatasetStats) {
        if self.embedding == Embedding::Time {
            self.time_scale.get_or_insert(facts.time_scale);
        }
        walks::complete(self.walks.as_mut(), facts);
        self.static_memory.complete(facts.nodes);
    }

    fn static_memory(&self) -> Option<&StaticSpec> {
        Some(&self.static_memory)
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        let TgnSpec { width, layers, pair_features, .. } = *self;
        g.precision(self.precision);
        g.neighbours(NeighbourSettings {
            neighbours: self.neighbours,
            sampler: self.sampler,
            lookup: self.history,
            delta: self.time_delta,
        });
        let time = g.time_encoding("memory.time", self.time, self.time_init);
        let rule = MailRule {
            combine: self.mail,
            other: self.mail_memory,
            update_without_mail: self.update_without_mail,
            to: self.deliver.receivers(),
            ..MailRule::default()
        };
        let mail = MemoryUpdateSettings { width: self.memory, message: self.message, updater: self.updater, rule };
        let memory = g.memory_update("memory", time, mail);
        let rows = g.node_rows(memory, &self.static_memory);
        let attention = AttentionSettings {
            form: self.attention,
            scores: self.attention_scores,
            width,
            heads: self.heads,
            dropout: self.dropout,
            alone: EmptyNeighbourhood::Nothing,
        };
        let layer = |depth: usize| (format!("embedding.layers.{depth}"), layers - 1 - depth);
        let embedding = match self.embedding {
            Embedding::Attention => (0..layers)
                .map(layer)
                .enumerate()
                .fold(rows, |table, (depth, (name, hop))| g.attention(&name, table, (depth, hop), time, attention)),
            Embedding::Sum => {
                (0..layers).map(layer).fold(rows, |table, (name, hop)| g.neighbour_sum(&name, table, hop, time, width))
            }
            Embedding::Time => {
                let units = vec![IdleNormalisation { shift: 0.0, scale: self.time_scale.unwrap_or(1.0) }];
                g.time_projection(
                    "embedding.layers.0",
                    rows,
                    &TimeProjectionSettings { units, bias: false, dropout: 0.0 },
                )
            }
            Embedding::Identity => g.centres(rows),
        };
        g.walks(self.walks.as_ref());
        let mut decoder = g.link_decoder(g.width(embedding), width, pair_features);
        if self.common_neighbours {
            let pairs = g.common_neighbours("common_neighbours", rows, None);
            decoder = g.link_decoder_with_pair_rows(decoder, pairs);
        }
        Outputs { memory: Some(memory), embedding, decoder, mail_payload: None }
    }
}
