//! DyRep: "DyRep: Learning Representations over Dynamic Graphs", Trivedi et al., ICLR 2019, as a memory model that
//! scores links: DyGLib's form.
//!
//! ```text
//! m_u(t)  = [s_u | z_v(t) | e_uv | phi(t - t_u)]              of the node's last event: localised embedding, exogenous drive
//! s_u(t)  = tanh(W m_u + b + W' s_u(t-) + b')                                                   eq. 4
//! z_v(t)  = attention over the last K neighbours of v before t, from memories before the batch  section 3.2
//! p(u, v) = f2 relu(f1 [s_u | s_v])                           link decoder
//! ```
//!
//! Mail carries the embedding of the other end, and links are scored from memories. Mail is made of constants, so no
//! gradient reaches the attention: it keeps its initial parameters. This is also so in DyGLib.
//!
//! Differs:
//! - the paper's intensity, its conditional likelihood and its two kinds of events are a link decoder and its loss;
//! - the paper's attention over structure is that of the residual form over recent events;
//! - mail is made without dropout, so that a replay makes the same mail; DyGLib's is that of the training step.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Delta, Lookup, MailContent, MailRule, Sampler};

use crate::operation::{Builder, NeighbourSettings};
use crate::ops::layers::attention::AttentionSettings;
use crate::ops::memory::MemoryUpdateSettings;
use crate::program::{MailPayload, MailRows, ModelKind, Outputs};
use crate::settings;
use crate::settings::{
    AttentionForm, AttentionScores, DatasetStats, EmptyNeighbourhood, Message, Precision, StaticSpec, TimeInit,
    Updater, WalkSpec, walks,
};

/// Settings of a DyRep. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DyrepSpec {
    /// Memory width `D`, also that of embeddings (100).
    pub memory: usize,
    /// Time encoding width `T` (100).
    pub time: usize,
    /// Initialisation of the time encoding (`log-spaced`).
    pub time_init: TimeInit,
    /// Memory updater: `rnn` or `gru` (`rnn`).
    pub updater: Updater,
    /// Attention layers, 1 or 2 (1).
    pub layers: usize,
    /// Attention heads `H` (2); divides the width of a row plus that of a time.
    pub heads: usize,
    /// Neighbours `K` of an end (10).
    pub neighbours: usize,
    /// What an end without neighbours attends to: `padding` (DyGLib) or `nothing` (`padding`).
    pub alone: EmptyNeighbourhood,
    /// Width inside the link decoder (100).
    pub width: usize,
    /// Neighbour sampler (`recent`).
    pub sampler: Sampler,
    /// Which events of its own batch an end sees (`exact`).
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

impl Default for DyrepSpec {
    fn default() -> DyrepSpec {
        DyrepSpec {
            memory: 100,
            time: 100,
            time_init: TimeInit::LogSpaced,
            updater: Updater::Rnn,
            layers: 1,
            heads: 2,
            neighbours: 10,
            alone: EmptyNeighbourhood::Padding,
            width: 100,
            sampler: Sampler::Recent,
            history: Lookup::Exact,
            precision: Precision::F32,
            walks: None,
            static_memory: StaticSpec::default(),
        }
    }
}

impl ModelKind for DyrepSpec {
    const KIND: &'static str = "dyrep";
    const ABOUT: &'static str = "memory whose mail says what attention to neighbours makes of the other end";
    const PAPER: &'static str = "Trivedi et al., 2019, ICLR";
    const TEMPLATE: &'static str = include_str!("dyrep.toml");

    fn check(&self) -> Result<(), String> {
        let DyrepSpec { memory, time, heads, neighbours, width, .. } = *self;
        let widths =
            [("memory", memory), ("time", time), ("heads", heads), ("neighbours", neighbours), ("width", width)];
        settings::check_at_least_one(&widths)?;
        settings::check_layers(self.layers)?;
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
        let DyrepSpec { memory: width, layers, heads, neighbours, sampler, history: lookup, .. } = *self;
        g.precision(self.precision);
        g.neighbours(NeighbourSettings { neighbours, sampler, lookup, delta: Delta::SinceEvent });
        g.sample_before_events();
        let time = g.time_encoding("memory.time", self.time, self.time_init);
        let rule = MailRule { says: MailContent::Given(width), ..MailRule::default() };
        let mail = MemoryUpdateSettings { width, message: Message::Identity, updater: self.updater, rule };
        let memory = g.memory_update("memory", time, mail);
        let rows = g.node_rows(memory, &self.static_memory);
        let (form, scores) = (AttentionForm::Residual, AttentionScores::Scaled);
        let attention = AttentionSettings { form, scores, width, heads, dropout: 0.0, alone: self.alone };
        let said = (0..layers).fold(rows, |table, depth| {
            let name = format!("embedding.layers.{depth}");
            g.attention_with_merge_rows(&name, [table, rows], (depth, layers - 1 - depth), time, attention)
        });
        let embedding = g.centres(rows);
        g.walks(self.walks.as_ref());
        let decoder = g.link_decoder(g.width(embedding), self.width, false);
        Outputs {
            memory: Some(memory),
            embedding,
            decoder,
            mail_payload: Some(MailPayload { value: said, rows: MailRows::Other, features: false }),
        }
    }
}
