//! GraphMixer: "Do We Really Need Complicated Model Architectures For Temporal Networks?", Cong et al., ICLR 2023
//! (arXiv:2302.11636), as DyGLib has it.
//!
//! ```text
//! phi(dt) = cos(dt w)                                          w constant, never learned                  section 3.1
//! X       = [e_i | phi(t - t_i)] Wᵀ + b                        of the last K events of u; zeros for slots without an event
//! X       = X + F_t(norm(Xᵀ))ᵀ,  X = X + F_c(norm(X))          L times; F = two maps with GELU between    eq. 1-2
//! s_u(t)  = x_u + mean of x_v                                  of the last G events of u, node features   section 3.2
//! z_u(t)  = W [mean of the K rows of X | s_u] + b
//! p(u, v) = f2 relu(f1 [z_u | z_v])                            link decoder                               section 3.3
//! ```
//!
//! There is no memory. Neighbours enter by their events and features alone.
//!
//! Differs:
//! - the second look shows the last `window` events. DyGLib's `time_gap` is also such a number and not a time; the
//!   paper has a time: `window_ticks`;
//! - DyGLib divides the mean over the window by `time_gap` once more: `mean_over = "events-and-slots"`;
//! - node features enter through a learned map, so their width may differ from that of embeddings. Without node
//!   features and static memory there is no second look, and `z_u` is mapped from the mixed tokens alone;
//! - tokens have `channels` columns of their own; DyGLib's are as wide as edge features;
//! - the newest event is the first token; in DyGLib it is the last, after the empty slots;
//! - frequencies are 1 to 1e-9 as in DyGLib; the paper's are `"root-spaced"`. They may be `"learned"` as well;
//! - dropout is drawn by position: queries of one node at one time share its dropout;
//! - static memory may be concatenated with the features.

use serde::{Deserialize, Serialize};
use tempograph_framework::{Delta, Lookup, Sampler, WindowSpec};

use crate::operation::{Builder, NeighbourSettings};
use crate::ops::layers::mixer::MixerSettings;
use crate::ops::layers::window::MeanOver;
use crate::program::{ModelKind, Outputs};
use crate::settings;
use crate::settings::{DatasetStats, Frequencies, Precision, StaticSpec};

/// Settings of a GraphMixer. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphMixerSpec {
    /// Columns of embeddings, and of the rows of nodes (100).
    pub width: usize,
    /// Time encoding width `T` (100).
    pub time: usize,
    /// Frequencies of the time encoding (`log-spaced`).
    pub frequencies: Frequencies,
    /// Columns of a token (100).
    pub channels: usize,
    /// Layers of the mixer (2).
    pub layers: usize,
    /// Columns inside the maps over tokens, relative to the number of tokens (0.5).
    pub token_expansion: f32,
    /// Columns inside the maps over columns, relative to the number of columns (4).
    pub channel_expansion: f32,
    /// Events `K` that are mixed (20).
    pub neighbours: usize,
    /// Maximum number of events `G` whose other ends' features are averaged (2000).
    pub window: usize,
    /// If given, only events of the last so many ticks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ticks: Option<i64>,
    /// What the sum of features is divided by (`events`).
    pub mean_over: MeanOver,
    /// Dropout inside the mixer (0.1).
    pub dropout: f32,
    /// Which events of its own batch a query sees (`exact`).
    pub history: Lookup,
    /// Precision of the inputs of matrix products (`f32`).
    pub precision: Precision,
    /// Static memory (off).
    #[serde(rename = "static")]
    pub static_memory: StaticSpec,
}

impl Default for GraphMixerSpec {
    fn default() -> GraphMixerSpec {
        GraphMixerSpec {
            width: 100,
            time: 100,
            frequencies: Frequencies::LogSpaced,
            channels: 100,
            layers: 2,
            token_expansion: 0.5,
            channel_expansion: 4.0,
            neighbours: 20,
            window: 2000,
            window_ticks: None,
            mean_over: MeanOver::Events,
            dropout: 0.1,
            history: Lookup::Exact,
            precision: Precision::F32,
            static_memory: StaticSpec::default(),
        }
    }
}

impl ModelKind for GraphMixerSpec {
    const KIND: &'static str = "graphmixer";
    const ABOUT: &'static str =
        "MLPs that mix the last events of a node, and a mean of its neighbours, without memory or attention";
    const PAPER: &'static str = "Cong et al., 2023, arXiv:2302.11636";
    const TEMPLATE: &'static str = include_str!("graphmixer.toml");

    fn check(&self) -> Result<(), String> {
        let GraphMixerSpec { width, time, channels, layers, neighbours, window, window_ticks, .. } = *self;
        settings::check_at_least_one(&[("width", width), ("time", time), ("channels", channels), ("layers", layers)])?;
        settings::check_at_least_one(&[("neighbours", neighbours), ("window", window)])?;
        if let Some(ticks @ ..=0) = window_ticks {
            return Err(format!("model.window_ticks = {ticks}; it must be at least 1"));
        }
        settings::check_share("dropout", self.dropout)?;
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
        let GraphMixerSpec { width, channels, layers, token_expansion, channel_expansion, dropout, .. } = *self;
        g.precision(self.precision);
        let (neighbours, lookup) = (self.neighbours, self.history);
        g.neighbours(NeighbourSettings { neighbours, sampler: Sampler::Recent, lookup, delta: Delta::SinceEvent });
        let time = g.any_time_encoding("embedding.time", self.time, self.frequencies);
        let mixer = MixerSettings { channels, layers, token_expansion, channel_expansion, dropout };
        let mut shown = vec![g.token_mixer("embedding.mixer", 0, time, mixer)];
        if g.node_width() > 0 || self.static_memory.enabled().is_some() {
            let rows = g.rows_without_memory(width, &self.static_memory);
            let look = WindowSpec { neighbours: self.window, ticks: self.window_ticks };
            shown.push(g.window_mean("embedding.window", rows, look, self.mean_over));
        }
        let embedding = g.linear_map("embedding.out", &shown, width);
        let decoder = g.link_decoder(width, width, false);
        Outputs { memory: None, embedding, decoder, mail_payload: None }
    }
}
