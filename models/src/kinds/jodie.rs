//! JODIE: "Predicting Dynamic Embedding Trajectory in Temporal Interaction Networks", Kumar et al., KDD 2019
//! (arXiv:1908.01207), as a memory model that scores links: DyGLib's form.
//!
//! ```text
//! m_u(t)  = [s_u | s_v | e_uv | phi(t - t_u)]                 of the node's last event          eq. 1, 2
//! s_u(t)  = tanh(W m_u + b + W' s_u(t-) + b')                                                   eq. 1, 2
//! z_u(t)  = drop((1 + w d + b) * s_u),  d = (t - t_u - mean) / deviation                        eq. 3
//! p(u, v) = f2 relu(f1 [z_u | z_v])                           link decoder
//! ```
//!
//! Idle times are normalised in one way for sources and in another for destinations.
//!
//! Differs:
//! - there is one cell for users and items instead of two, and a link decoder instead of the predicted item and its
//!   nearest neighbours;
//! - nodes have no one-hot vectors; static memory can replace them;
//! - the time encoding of messages is learned; in DyGLib it is not. The bias and the slope are initialised in ±1/√D
//!   instead of ±1.

use serde::{Deserialize, Serialize};
use tempograph_framework::MailRule;

use crate::operation::Builder;
use crate::ops::layers::projection::{IdleNormalisation, TimeProjectionSettings};
use crate::ops::memory::MemoryUpdateSettings;
use crate::program::{ModelKind, Outputs};
use crate::settings;
use crate::settings::{DatasetStats, Message, Precision, StaticSpec, TimeInit, Updater, WalkSpec, walks};

/// Settings of a JODIE. A missing key has the default in parentheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JodieSpec {
    /// Memory width `D` (100).
    pub memory: usize,
    /// Time encoding width `T` of messages (100).
    pub time: usize,
    /// Initialisation of the time encoding (`log-spaced`).
    pub time_init: TimeInit,
    /// Memory updater: `rnn` or `gru` (`rnn`).
    pub updater: Updater,
    /// Width inside the link decoder (100).
    pub width: usize,
    /// Dropout on embeddings (0.1).
    pub dropout: f32,
    /// Precision of the inputs of matrix products (`f32`).
    pub precision: Precision,
    /// Normalisation of the idle times of sources; if missing, from the training split.
    pub source_idle: Option<IdleSpec>,
    /// The same for destinations.
    pub destination_idle: Option<IdleSpec>,
    /// Features of the temporal walks of both ends, which the decoder reads, as in TPNet (off).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub walks: Option<WalkSpec>,
    /// Static memory (off).
    #[serde(rename = "static")]
    pub static_memory: StaticSpec,
}

/// Normalisation of idle times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdleSpec {
    /// Ticks that count as zero.
    pub mean: f64,
    /// Ticks that count as one.
    pub deviation: f64,
}

impl Default for JodieSpec {
    fn default() -> JodieSpec {
        JodieSpec {
            memory: 100,
            time: 100,
            time_init: TimeInit::LogSpaced,
            updater: Updater::Rnn,
            width: 100,
            dropout: 0.1,
            precision: Precision::F32,
            source_idle: None,
            destination_idle: None,
            walks: None,
            static_memory: StaticSpec::default(),
        }
    }
}

impl ModelKind for JodieSpec {
    const KIND: &'static str = "jodie";
    const ABOUT: &'static str = "memory, and a projection of it into the time that has passed";
    const PAPER: &'static str = "Kumar et al., 2019, arXiv:1908.01207";
    const TEMPLATE: &'static str = include_str!("jodie.toml");

    fn check(&self) -> Result<(), String> {
        settings::check_at_least_one(&[("memory", self.memory), ("time", self.time), ("width", self.width)])?;
        settings::check_share("dropout", self.dropout)?;
        for (key, idle) in [("source_idle", self.source_idle), ("destination_idle", self.destination_idle)] {
            if let Some(IdleSpec { mean, deviation }) = idle
                && !(mean.is_finite() && deviation.is_finite() && deviation > 0.0)
            {
                return Err(format!("model.{key}.deviation = {deviation}; it must be positive, and the mean a number"));
            }
        }
        self.precision.check()?;
        walks::check(self.walks.as_ref())?;
        self.static_memory.check()
    }

    fn complete(&mut self, facts: &DatasetStats) {
        let [source, destination] = facts.idle.map(|idle| IdleSpec { mean: idle.mean, deviation: idle.deviation });
        self.source_idle.get_or_insert(source);
        self.destination_idle.get_or_insert(destination);
        walks::complete(self.walks.as_mut(), facts);
        self.static_memory.complete(facts.nodes);
    }

    fn static_memory(&self) -> Option<&StaticSpec> {
        Some(&self.static_memory)
    }

    fn build(&self, g: &mut Builder) -> Outputs {
        g.precision(self.precision);
        let time = g.time_encoding("memory.time", self.time, self.time_init);
        let (width, updater) = (self.memory, self.updater);
        let mail = MemoryUpdateSettings { width, message: Message::Identity, updater, rule: MailRule::default() };
        let memory = g.memory_update("memory", time, mail);
        let rows = g.node_rows(memory, &self.static_memory);
        let unit = |idle: Option<IdleSpec>| match idle {
            Some(IdleSpec { mean, deviation }) => IdleNormalisation { shift: mean, scale: deviation },
            None => IdleNormalisation { shift: 0.0, scale: 1.0 },
        };
        let units = vec![unit(self.source_idle), unit(self.destination_idle)];
        let embedding =
            g.time_projection("embedding", rows, &TimeProjectionSettings { units, bias: true, dropout: self.dropout });
        g.walks(self.walks.as_ref());
        let decoder = g.link_decoder_by_role(g.width(rows), self.width, false);
        Outputs { memory: Some(memory), embedding, decoder, mail_payload: None }
    }
}
