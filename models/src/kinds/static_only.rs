//! Static memory alone: "DistTGL: Distributed Memory-Based Temporal Graph Neural Network Training", Zhou et al., SC
//! 2023 (arXiv:2307.07649), section 3.1, without the dynamic memory and its embeddings.
//!
//! ```text
//! z_u     = W c_u + b [+ W' x_u + b']                         static memory, and node features where there are any
//! p(u, v) = f2 relu(f1 [z_u | z_v])                           link decoder
//! ```
//!
//! No time, no neighbours: it shows how much of a score comes from the identities of the nodes. Every other model has
//! to beat it.
//!
//! Differs:
//! - the paper does not name this model; its ablation trains with static memory and without.

use serde::{Deserialize, Serialize};

use crate::operation::Builder;
use crate::program::{ModelKind, Outputs};
use crate::settings;
use crate::settings::{DatasetStats, Precision, StaticMemoryMode, StaticSpec};

/// Settings of a model of static memory. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaticOnlySpec {
    /// Width of embeddings, and inside the link decoder (100).
    pub width: usize,
    /// Precision of the inputs of matrix products (`f32`).
    pub precision: Precision,
    /// Static memory (`add`).
    #[serde(rename = "static")]
    pub static_memory: StaticSpec,
}

impl Default for StaticOnlySpec {
    fn default() -> StaticOnlySpec {
        let static_memory = StaticSpec { how: StaticMemoryMode::Add, ..StaticSpec::default() };
        StaticOnlySpec { width: 100, precision: Precision::F32, static_memory }
    }
}

impl ModelKind for StaticOnlySpec {
    const KIND: &'static str = "static";
    const ABOUT: &'static str = "static memory alone: no time, no neighbours";
    const PAPER: &'static str = "Zhou et al., 2023, arXiv:2307.07649";
    const TEMPLATE: &'static str = include_str!("static_only.toml");

    fn check(&self) -> Result<(), String> {
        settings::check_at_least_one(&[("width", self.width)])?;
        if self.static_memory.enabled().is_none() {
            return Err(
                "model.static.how = \"off\"; a model of static memory alone reads it, \"add\" or \"concat\"".into()
            );
        }
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
        g.precision(self.precision);
        let rows = g.rows_without_memory(self.width, &self.static_memory);
        let embedding = g.centres(rows);
        let decoder = g.link_decoder(g.width(embedding), self.width, false);
        Outputs { memory: None, embedding, decoder, mail_payload: None }
    }
}
