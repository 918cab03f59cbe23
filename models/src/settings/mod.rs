//! Settings that several kinds of models have.
mod facts;
mod static_memory;
pub(crate) mod walks;

pub use facts::{DatasetStats, IdleStats};
pub use static_memory::{PretrainSpec, StaticMemoryMode, StaticSpec};
pub use walks::WalkSpec;

use serde::{Deserialize, Serialize};
use tempograph_framework::{Receivers, Sampler};

/// Precision of the inputs of matrix products; sums are in single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision.
    F32,
    /// TF32, 10 bits after the binary point, on GPUs; single precision on the CPU.
    Tf32,
    /// bfloat16: on the CPU in forward products and gradients of inputs, on GPUs in all products.
    Bf16,
}

#[cfg(feature = "cube")]
impl From<Precision> for tempograph_kernels::cube::ProductPrecision {
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

/// Form of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionForm {
    /// Multi-head attention and a merge layer, the TGN authors' form.
    Paper,
    /// PyG's `TransformerConv` with a skip connection.
    TransformerConv,
    /// TGAT's in DyGLib: as wide inside as the row of a centre and its time, with a residual connection and a layer
    /// norm before the merge layer.
    Residual,
}

/// What a centre without neighbours attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyNeighbourhood {
    /// Nothing: its attention is zero.
    Nothing,
    /// A neighbour of zeros, met at the log's first event: equivalent to DyGLib's padding.
    Padding,
}

/// The function applied to the product of query and key before the softmax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionScores {
    /// `q . k / sqrt(O / H)`.
    Scaled,
    /// `LeakyReLU(q . k)`, not scaled, with slope 0.2 below zero: TGL's attention.
    LeakyRelu,
}

/// Which nodes get the mail of an event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MailDelivery {
    /// Its two ends.
    Ends,
    /// Its two ends and neighbours of each (DyGNN's propagation, APAN's propagator).
    Neighbours {
        /// Maximum number of neighbours of an end, the newest first.
        count: usize,
        /// Ticks that count as one in `1 / ln(e + dt)`, the factor of the mail's payload, with `dt` the time since the
        /// neighbour was met. If missing, the factor is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decay: Option<f64>,
    },
}

impl MailDelivery {
    /// The same as a rule of a history.
    pub fn receivers(self) -> Receivers {
        match self {
            MailDelivery::Ends => Receivers::Ends,
            MailDelivery::Neighbours { count, decay } => Receivers::Neighbours { count, decay },
        }
    }

    /// Checks the settings. The error names the key and its value.
    ///
    /// # Errors
    /// A sentence for no neighbours, or a decay that is not positive.
    pub fn check(self) -> Result<(), String> {
        match self {
            MailDelivery::Neighbours { count: 0, .. } => {
                Err("model.deliver.count is 0; it must be at least 1, or model.deliver.to \"ends\"".into())
            }
            MailDelivery::Neighbours { decay: Some(decay), .. } if !(decay.is_finite() && decay > 0.0) => {
                Err(format!("model.deliver.decay = {decay}; it must be positive"))
            }
            _ => Ok(()),
        }
    }
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

/// Frequencies of a time encoding that need not be learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frequencies {
    /// 1 to 1e-9, evenly spaced in the logarithm (DyGLib).
    LogSpaced,
    /// `a^(-i / a)`, `i` from 0, of `a = sqrt(T)` (GraphMixer, section 3.1).
    RootSpaced,
    /// Parameters, which begin as `LogSpaced`.
    Learned,
}

impl Precision {
    /// Checks that this processor can compute products of this precision.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(self) -> Result<(), String> {
        match tempograph_kernels::cpu::Precision::from(self).available() {
            true => Ok(()),
            false => Err("model.precision = \"bf16\"; this processor has no AVX-512 BF16 instructions, or TEMPOGRAPH_CPU keeps to others".into()),
        }
    }
}

/// Refuses widths of zero, each by its key.
pub(crate) fn check_at_least_one(widths: &[(&str, usize)]) -> Result<(), String> {
    match widths.iter().find(|(_, width)| *width == 0) {
        Some((key, _)) => Err(format!("model.{key} is 0; it must be at least 1")),
        None => Ok(()),
    }
}

/// Refuses a number of layers other than 1 or 2.
pub(crate) fn check_layers(layers: usize) -> Result<(), String> {
    match (1..=2).contains(&layers) {
        true => Ok(()),
        false => Err(format!("model.layers = {layers}; it is 1 or 2")),
    }
}

/// Refuses a share outside `0..1`.
pub(crate) fn check_share(key: &str, value: f32) -> Result<(), String> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(format!("model.{key} = {value}; it lies in 0 <= {key} < 1")),
    }
}

/// Refuses a window of no ticks.
pub(crate) fn check_window(sampler: Sampler) -> Result<(), String> {
    match sampler {
        Sampler::Window(ticks @ ..=0) => {
            Err(format!("model.sampler = {{ window = {ticks} }}; it must be at least 1 tick"))
        }
        _ => Ok(()),
    }
}

/// Refuses a time scale that is not positive.
pub(crate) fn check_time_scale(scale: Option<f64>) -> Result<(), String> {
    match scale.is_some_and(|scale| scale.is_nan() || scale <= 0.0) {
        true => Err(format!("model.time_scale = {scale:?}; it must be positive")),
        false => Ok(()),
    }
}
