//! TNCN: "Efficient Neural Common Neighbor for Temporal Graph Link Prediction", Zhang et al., 2024 (arXiv:2406.07926),
//! by its public code.
//!
//! ```text
//! s_u(t)  = GRU([s_u | s_v | e_uv | phi(t - t_u)], s_u(t-))      TGN's memory as PyG has it
//! z_u(t)  = TransformerConv(s_u, {s_v, [e_uv | phi(t_v - t_e)]}) TGN's embedding as PyG has it
//! x_w     = W s_w + b                                            of a neighbour
//! y_uv    = [z_u * z_v | sum of x_w over w in N_u and N_v]       1 hop
//! y_uv    = [z_u * z_v | m z_u | m z_v | sum of x_w ..]          0 and 1 hop, m = 1 where one end is in the other's list, else 0
//! p(u, v) = f2 relu(f1 y_uv)                                     decoder of pairs
//! ```
//!
//! `N_u` are the distinct nodes of the last `K` events of `u`.
//!
//! Differs:
//! - a common neighbour has a linear map of its own, which is merged into `f1`: rows are summed first, and `y_uv` has a
//!   column with their number. The public code maps it by the embedding's skip connection, or embeds it by attention if
//!   it is itself a root of the batch;
//! - whether two ends met follows from their own lists; the public code also reads those of all roots of the batch;
//! - a query sees the earlier events of its own batch; the public code does not: `history = "batch"`;
//! - two hops are not implemented, nor the decay by time, which is off in the public code;
//! - node features enter through a learned map, and static memory may be read.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Combine, Delta, Lookup, MailRule, OtherMemory, Sampler};

use crate::operation::{Builder, NeighbourSettings};
use crate::ops::layers::attention::AttentionSettings;
use crate::ops::memory::MemoryUpdateSettings;
use crate::ops::pairs::common::EndColumns;
use crate::program::{ModelKind, Outputs};
use crate::settings;
use crate::settings::{
    AttentionForm, AttentionScores, DatasetStats, EmptyNeighbourhood, Message, Precision, StaticSpec, TimeInit, Updater,
};

/// Settings of a TNCN. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TncnSpec {
    /// Memory width `D` (100).
    pub memory: usize,
    /// Time encoding width `T` (100).
    pub time: usize,
    /// Initialisation of the time encoding (`uniform`).
    pub time_init: TimeInit,
    /// Mail combiner: `last` or `mean` (`last`).
    pub mail: Combine,
    /// Embedding width `O` (100).
    pub width: usize,
    /// Width inside the decoder (256).
    pub decoder: usize,
    /// Attention heads `H` (2); divides `width`.
    pub heads: usize,
    /// Neighbours `K` of a node, among which common ones are searched (10).
    pub neighbours: usize,
    /// Whether ends that are neighbours of each other also count: 0 hops (false).
    pub zero_hop: bool,
    /// Dropout on attention weights (0.1).
    pub dropout: f32,
    /// Neighbour sampler (`recent`).
    pub sampler: Sampler,
    /// Which events of its own batch a query sees (`exact`).
    pub history: Lookup,
    /// Precision of the inputs of matrix products (`f32`).
    pub precision: Precision,
    /// Static memory (off).
    #[serde(rename = "static")]
    pub static_memory: StaticSpec,
}

impl Default for TncnSpec {
    fn default() -> TncnSpec {
        TncnSpec {
            memory: 100,
            time: 100,
            time_init: TimeInit::Uniform,
            mail: Combine::Last,
            width: 100,
            decoder: 256,
            heads: 2,
            neighbours: 10,
            zero_hop: false,
            dropout: 0.1,
            sampler: Sampler::Recent,
            history: Lookup::Exact,
            precision: Precision::F32,
            static_memory: StaticSpec::default(),
        }
    }
}

impl ModelKind for TncnSpec {
    const KIND: &'static str = "tncn";
    const ABOUT: &'static str = "TGN's memory and attention; links are scored by common neighbours";
    const PAPER: &'static str = "Zhang et al., 2024, arXiv:2406.07926";
    const TEMPLATE: &'static str = include_str!("tncn.toml");

    fn check(&self) -> Result<(), String> {
        let TncnSpec { memory, time, width, decoder, heads, neighbours, .. } = *self;
        let widths = [("memory", memory), ("time", time), ("width", width), ("decoder", decoder)];
        settings::check_at_least_one(&widths)?;
        settings::check_at_least_one(&[("heads", heads), ("neighbours", neighbours)])?;
        settings::check_share("dropout", self.dropout)?;
        settings::check_window(self.sampler)?;
        self.precision.check()?;
        self.static_memory.check()
    }

    fn complete(&mut self, facts: &DatasetStats) {
        self.static_memory.complete(facts.nodes);
    }

    fn static_memory(&self) -> Option<&StaticSpec> {
        Some(&self.static_memory)
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        let TncnSpec { width, heads, dropout, neighbours, sampler, history: lookup, .. } = *self;
        g.precision(self.precision);
        g.neighbours(NeighbourSettings { neighbours, sampler, lookup, delta: Delta::SinceUpdate });
        let time = g.time_encoding("memory.time", self.time, self.time_init);
        let (combine, other) = (self.mail, OtherMemory::AtRead);
        let rule = MailRule { combine, other, update_without_mail: true, ..MailRule::default() };
        let mail = MemoryUpdateSettings { width: self.memory, message: Message::Identity, updater: Updater::Gru, rule };
        let memory = g.memory_update("memory", time, mail);
        let rows = g.node_rows(memory, &self.static_memory);
        let (form, scores, alone) =
            (AttentionForm::TransformerConv, AttentionScores::Scaled, EmptyNeighbourhood::Nothing);
        let attention = AttentionSettings { form, scores, width, heads, dropout, alone };
        let embedding = g.attention("embedding.layers.0", rows, (0, 0), time, attention);
        let ends = EndColumns { product: true, met: self.zero_hop };
        let pairs = g.common_neighbours("pairs", rows, Some((embedding, ends)));
        let decoder = g.pair_row_decoder(pairs, self.decoder);
        Outputs { memory: Some(memory), embedding, decoder, mail_payload: None }
    }
}
