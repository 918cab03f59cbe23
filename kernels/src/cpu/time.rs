//! The time encoding `cos(dt * freq + phase)`.
use super::math::{add, add_time_gradient, cos_row, sin_row};
use rayon::prelude::*;

/// Rows a task takes.
const CHUNK: usize = 64;

/// `[n, T]`.
pub(crate) fn encode(dt: &[f32], freq: &[f32], phase: &[f32]) -> Vec<f32> {
    let width = freq.len();
    let mut out = vec![0.0; dt.len() * width];
    if width > 0 {
        out.par_chunks_mut(CHUNK * width).zip(dt.par_chunks(CHUNK)).for_each(|(out, dt)| {
            for (row, &dt) in out.chunks_exact_mut(width).zip(dt) {
                cos_row(row, dt, freq, phase);
            }
        });
    }
    out
}

/// Gradients of `freq` and `phase`, given the gradient of the encoding.
pub(crate) fn encode_backward(dt: &[f32], freq: &[f32], phase: &[f32], grad: &[f32]) -> [Vec<f32>; 2] {
    let width = freq.len();
    if width == 0 {
        return [Vec::new(), Vec::new()];
    }
    let partials: Vec<TimeGradient> = dt
        .par_chunks(CHUNK)
        .zip(grad.par_chunks(CHUNK * width))
        .map(|(dt, grad)| {
            let mut sum = TimeGradient::zero(width);
            let mut sine = vec![0.0; width];
            for (&dt, grad) in dt.iter().zip(grad.chunks_exact(width)) {
                sin_row(&mut sine, dt, freq, phase);
                sum.add_row(dt, &sine, grad);
            }
            sum
        })
        .collect();
    TimeGradient::sum(width, &partials).into_parts()
}

/// Gradients of `freq` and `phase`.
pub(super) struct TimeGradient {
    freq: Vec<f32>,
    phase: Vec<f32>,
}

impl TimeGradient {
    pub(super) fn zero(width: usize) -> Self {
        Self { freq: vec![0.0; width], phase: vec![0.0; width] }
    }

    /// Adds what one row contributes, given the sine of its argument and the gradient of its encoding.
    pub(super) fn add_row(&mut self, dt: f32, sine: &[f32], grad: &[f32]) {
        add_time_gradient(&mut self.freq, &mut self.phase, dt, sine, grad);
    }

    /// The sum, in the order given.
    pub(super) fn sum(width: usize, parts: &[Self]) -> Self {
        let mut total = Self::zero(width);
        for part in parts {
            total.add(part);
        }
        total
    }

    pub(super) fn add(&mut self, part: &Self) {
        add(&mut self.freq, &part.freq);
        add(&mut self.phase, &part.phase);
    }

    pub(super) fn into_parts(self) -> [Vec<f32>; 2] {
        [self.freq, self.phase]
    }
}
