//! The time encoding `cos(dt w + b)` (TGAT eq. 5), which several operations share.

use tempograph_kernels::TemporalOps;
use tempograph_kernels::cpu::TimeWeights;
use tempograph_kernels::tensor::Tensor;

use crate::executor::TensorContext;
use crate::program::{Builder, Param, Weights};
use crate::settings::TimeInit;

/// Frequencies and phases of the time encoding.
#[derive(Clone, Copy, Debug)]
pub struct TimeEncoding {
    /// `[T]`.
    pub freq: Param,
    /// `[T]`.
    pub phase: Param,
    /// `T`.
    pub width: usize,
}

impl Builder {
    /// The time encoding of `width` columns whose parameters are called `NAME.freq` and `NAME.phase`.
    pub fn time_encoding(&mut self, name: &str, width: usize, init: TimeInit) -> TimeEncoding {
        let [freq, phase] = ["freq", "phase"].map(|part| format!("{name}.{part}"));
        let encoding = self.parameters.shared(|parameters| match init {
            TimeInit::Uniform => TimeEncoding {
                freq: parameters.uniform(&freq, &[width], 1.0),
                phase: parameters.uniform(&phase, &[width], 1.0),
                width,
            },
            TimeInit::LogSpaced => {
                let step = 9.0 / (width.max(2) - 1) as f64;
                let values = (0..width).map(|i| 10f64.powf(-step * i as f64) as f32).collect();
                TimeEncoding {
                    freq: parameters.values(&freq, &[width], values),
                    phase: parameters.values(&phase, &[width], vec![0.0; width]),
                    width,
                }
            }
        });
        self.declared_since();
        self.time = width;
        encoding
    }
}

impl TimeEncoding {
    /// Its parameters on slices.
    pub fn weights<'a>(&self, weights: Weights<'a>) -> TimeWeights<'a> {
        TimeWeights { freq: weights.values(self.freq), phase: weights.values(self.phase) }
    }

    /// Encodes `dt` on tensors, `[dt, T]`.
    pub(crate) fn encode<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, dt: &[f32]) -> Tensor<B, 2> {
        tempograph_kernels::time_encode(dt, cx.vector(self.freq), cx.vector(self.phase))
    }
}
