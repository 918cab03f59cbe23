//! TGAT: "Inductive Representation Learning on Temporal Graphs", Xu et al., ICLR 2020 (arXiv:2002.07962), as DyGLib has
//! it.
//!
//! ```text
//! h_u     = W x_u + b                                         node features; zeros where there are none
//! q       = Wq [z_u(t) | phi(0)],  k_v, v_v = W [z_v(t_e) | e_uv | phi(t - t_e)]                 eq. 6
//! o       = norm(drop(Wo sum a_v v_v) + [z_u(t) | phi(0)]),  a = softmax(q . k / sqrt)           eq. 7
//! z'_u(t) = f2 relu(f1 [o | h_u])                             of each layer, z = h below the first  eq. 8
//! phi(dt) = cos(dt w + b)                                     one time encoding for all layers   eq. 5
//! p(u, v) = f2 relu(f1 [z_u | z_v])                           link decoder
//! ```
//!
//! There is no memory. The row of a node at a time follows from its last `K` events before that time, each with the
//! other end as it was then.
//!
//! Differs:
//! - node features enter through a learned map, so their width may differ from that of embeddings;
//! - the last neighbours are the default, as in DyGLib; the paper samples them (`sampler = "uniform"`);
//! - dropout is drawn by position: queries that share a centre share its dropout;
//! - static memory may be concatenated with the features.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Delta, Lookup, Sampler};

use crate::operation::{Builder, NeighbourSettings};
use crate::ops::layers::attention::AttentionSettings;
use crate::program::{ModelKind, Outputs};
use crate::settings;
use crate::settings::{
    AttentionForm, AttentionScores, DatasetStats, EmptyNeighbourhood, Precision, StaticSpec, TimeInit, WalkSpec, walks,
};

/// Settings of a TGAT. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TgatSpec {
    /// Columns of embeddings, and of the rows of nodes (100).
    pub width: usize,
    /// Time encoding width `T` (100).
    pub time: usize,
    /// Initialisation of the time encoding (`log-spaced`).
    pub time_init: TimeInit,
    /// Attention layers, 1 or 2 (2).
    pub layers: usize,
    /// Attention heads `H` (2); divides `width + time`, plus the width of static memory if that is concatenated.
    pub heads: usize,
    /// Neighbours `K` of a node at each hop (20).
    pub neighbours: usize,
    /// What a node without neighbours attends to: `padding` (DyGLib) or `nothing` (`padding`).
    pub alone: EmptyNeighbourhood,
    /// Dropout on attention weights and on the attention's output (0.1).
    pub dropout: f32,
    /// Neighbour sampler (`recent`).
    pub sampler: Sampler,
    /// Which events of its own batch a query sees (`exact`).
    pub history: Lookup,
    /// Precision of the inputs of matrix products (`f32`).
    pub precision: Precision,
    /// Features of the temporal walks of both ends, which the decoder reads, as in TPNet (off).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walks: Option<WalkSpec>,
    /// Static memory (off).
    #[serde(rename = "static")]
    pub static_memory: StaticSpec,
}

impl Default for TgatSpec {
    fn default() -> TgatSpec {
        TgatSpec {
            width: 100,
            time: 100,
            time_init: TimeInit::LogSpaced,
            layers: 2,
            heads: 2,
            neighbours: 20,
            alone: EmptyNeighbourhood::Padding,
            dropout: 0.1,
            sampler: Sampler::Recent,
            history: Lookup::Exact,
            precision: Precision::F32,
            walks: None,
            static_memory: StaticSpec::default(),
        }
    }
}

impl ModelKind for TgatSpec {
    const KIND: &'static str = "tgat";
    const ABOUT: &'static str = "attention to neighbours and theirs, without memory";
    const PAPER: &'static str = "Xu et al., 2020, arXiv:2002.07962";
    const TEMPLATE: &'static str = include_str!("tgat.toml");

    fn check(&self) -> Result<(), String> {
        let TgatSpec { width, time, heads, neighbours, .. } = *self;
        settings::check_at_least_one(&[
            ("width", width),
            ("time", time),
            ("heads", heads),
            ("neighbours", neighbours),
        ])?;
        settings::check_layers(self.layers)?;
        settings::check_share("dropout", self.dropout)?;
        settings::check_window(self.sampler)?;
        self.precision.check()?;
        walks::check(self.walks.as_ref())?;
        self.static_memory.check()
    }

    fn complete(&mut self, facts: &DatasetStats) {
        walks::complete(self.walks.as_mut(), facts);
        self.static_memory.complete(facts.nodes);
    }

    fn static_memory(&self) -> Option<&StaticSpec> {
        Some(&self.static_memory)
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        let TgatSpec { width, layers, heads, neighbours, dropout, alone, sampler, history: lookup, .. } = *self;
        g.precision(self.precision);
        g.neighbours(NeighbourSettings { neighbours, sampler, lookup, delta: Delta::SinceEvent });
        g.sample_before_events();
        let time = g.time_encoding("embedding.time", self.time, self.time_init);
        let rows = g.rows_without_memory(width, &self.static_memory);
        let (form, scores) = (AttentionForm::Residual, AttentionScores::Scaled);
        let attention = AttentionSettings { form, scores, width, heads, dropout, alone };
        let embedding = (0..layers).fold(rows, |table, depth| {
            let name = format!("embedding.layers.{depth}");
            g.attention_with_merge_rows(&name, [table, rows], (depth, layers - 1 - depth), time, attention)
        });
        g.walks(self.walks.as_ref());
        let decoder = g.link_decoder(width, width, false);
        Outputs { memory: None, embedding, decoder, mail_payload: None }
    }
}
