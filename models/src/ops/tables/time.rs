//! The time encoding `cos(dt w + b)` (TGAT eq. 5), learned or not. Several operations share one.

use std::sync::Arc;

use tempograph_kernels::TemporalOps;
use tempograph_kernels::cpu::{TimeWeights, cos_row};
use tempograph_kernels::tensor::Tensor;

use crate::operation::{Builder, Param, TensorContext, Weights};
#[cfg(feature = "cube")]
use crate::operation::{LayoutBuilder, TimeSlot};
use crate::settings::{Frequencies, TimeInit};

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
            TimeInit::LogSpaced => TimeEncoding {
                freq: parameters.values(&freq, &[width], log_spaced(width)),
                phase: parameters.values(&phase, &[width], vec![0.0; width]),
                width,
            },
        });
        self.take_declared();
        self.time = width;
        encoding
    }

    /// A time encoding of `width` columns. If it is not learned, its numbers are constants of the program: it has no
    /// parameter, and no optimiser changes it. Otherwise its parameters have the names of
    /// [`time_encoding`](Self::time_encoding).
    pub fn any_time_encoding(&mut self, name: &str, width: usize, frequencies: Frequencies) -> AnyTimeEncoding {
        self.time = width;
        let freq = match frequencies {
            Frequencies::LogSpaced => log_spaced(width),
            Frequencies::RootSpaced => {
                let root = (width as f64).sqrt();
                (0..width).map(|i| root.powf(-(i as f64) / root) as f32).collect()
            }
            Frequencies::Learned => return self.time_encoding(name, width, TimeInit::LogSpaced).into(),
        };
        FixedTimeEncoding { phase: vec![0.0; freq.len()].into(), freq: freq.into() }.into()
    }
}

/// Frequencies 1 to 1e-9, evenly spaced in the logarithm.
fn log_spaced(width: usize) -> Vec<f32> {
    let step = 9.0 / (width.max(2) - 1) as f64;
    (0..width).map(|i| 10f64.powf(-step * i as f64) as f32).collect()
}

/// A time encoding that is not learned (GraphMixer, Cong et al., ICLR 2023, section 3.1).
#[derive(Clone, Debug)]
pub struct FixedTimeEncoding {
    /// `[T]`.
    freq: Arc<[f32]>,
    /// `[T]`.
    phase: Arc<[f32]>,
}

/// A time encoding, learned or not.
#[derive(Clone, Debug)]
pub enum AnyTimeEncoding {
    /// With parameters.
    Learned(TimeEncoding),
    /// With constants.
    Fixed(FixedTimeEncoding),
}

impl From<TimeEncoding> for AnyTimeEncoding {
    fn from(time: TimeEncoding) -> AnyTimeEncoding {
        AnyTimeEncoding::Learned(time)
    }
}

impl From<FixedTimeEncoding> for AnyTimeEncoding {
    fn from(time: FixedTimeEncoding) -> AnyTimeEncoding {
        AnyTimeEncoding::Fixed(time)
    }
}

impl AnyTimeEncoding {
    /// `T`.
    pub fn width(&self) -> usize {
        match self {
            AnyTimeEncoding::Learned(time) => time.width,
            AnyTimeEncoding::Fixed(time) => time.freq.len(),
        }
    }

    /// Its parameters, if it has any.
    pub fn learned(&self) -> Option<&TimeEncoding> {
        if let AnyTimeEncoding::Learned(time) = self { Some(time) } else { None }
    }

    /// Its numbers on slices.
    pub fn weights<'a>(&'a self, weights: Weights<'a>) -> TimeWeights<'a> {
        match self {
            AnyTimeEncoding::Learned(time) => time.weights(weights),
            AnyTimeEncoding::Fixed(FixedTimeEncoding { freq, phase }) => TimeWeights { freq, phase },
        }
    }

    /// A short description.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            AnyTimeEncoding::Learned(_) => "times learned",
            AnyTimeEncoding::Fixed(_) => "times fixed",
        }
    }

    /// Encodes `dt` on tensors, `[dt, T]`.
    pub(crate) fn encode<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, dt: &[f32]) -> Tensor<B, 2> {
        match self {
            AnyTimeEncoding::Learned(time) => time.encode(cx, dt),
            AnyTimeEncoding::Fixed(FixedTimeEncoding { freq, phase }) => {
                let mut rows = vec![0.0; dt.len() * freq.len()];
                rows.chunks_exact_mut(freq.len().max(1)).zip(dt).for_each(|(row, &dt)| cos_row(row, dt, freq, phase));
                cx.from_rows(rows, [dt.len(), freq.len()])
            }
        }
    }
}

impl TimeEncoding {
    /// Its slot on a device.
    #[cfg(feature = "cube")]
    pub(crate) fn device_slot(&self, layout_builder: &mut LayoutBuilder<'_>) -> TimeSlot {
        layout_builder.time([self.freq, self.phase], self.width)
    }

    /// Its parameters on slices.
    pub fn weights<'a>(&self, weights: Weights<'a>) -> TimeWeights<'a> {
        TimeWeights { freq: weights.values(self.freq), phase: weights.values(self.phase) }
    }

    /// Encodes `dt` on tensors, `[dt, T]`.
    pub(crate) fn encode<B: TemporalOps>(&self, cx: &TensorContext<'_, B>, dt: &[f32]) -> Tensor<B, 2> {
        tempograph_kernels::time_encode(dt, cx.vector(self.freq), cx.vector(self.phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FeatureWidths, GraphMixerSpec, ModelSpec, TokenMixer};

    /// The frequencies of a token mixer, and whether its program has parameters for them.
    fn found(frequencies: Frequencies) -> (Vec<f32>, bool) {
        let spec = ModelSpec::from(GraphMixerSpec { frequencies, time: 16, ..GraphMixerSpec::default() });
        let program = spec.program(FeatureWidths { edge: 3, node: 0 }).expect("a program");
        let declared = program.declarations();
        let learned = declared.params().any(|param| declared.describe(param).0.starts_with("embedding.time."));
        let first: &dyn std::any::Any = &*program.steps()[0].op;
        let mixer: &TokenMixer = first.downcast_ref().expect("a mixer");
        let freq = if let AnyTimeEncoding::Fixed(time) = &mixer.time { time.freq.to_vec() } else { Vec::new() };
        (freq, learned)
    }

    #[test]
    fn frequencies_that_are_not_learned_are_constants_and_no_parameters() {
        let (log_spaced, learned) = found(Frequencies::LogSpaced);
        assert!(!learned && log_spaced.len() == 16);
        assert!(log_spaced[0] == 1.0 && (log_spaced[15] / 1e-9 - 1.0).abs() < 1e-5, "{log_spaced:?}");
        let (root_spaced, learned) = found(Frequencies::RootSpaced);
        assert!(!learned && root_spaced.len() == 16);
        // a = 4: 4^(-i / 4)
        for (i, expected) in [(0, 1.0), (2, 0.5), (4, 0.25), (12, 1.0 / 64.0)] {
            assert!((root_spaced[i] - expected).abs() < 1e-7, "{i}: {}", root_spaced[i]);
        }
        assert_eq!(found(Frequencies::Learned), (Vec::new(), true));
    }
}
