//! The time encoding `cos(dt * freq + phase)`.
pub(crate) use crate::cpu::vector::math::add_time_gradient;
use crate::cpu::vector::math::{add, cos_row, sin_row};
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};

/// Rows per task.
const CHUNK: usize = 64;

/// Weights of the time encoding, both `[T]`.
#[derive(Clone, Copy, Debug)]
pub struct TimeWeights<'a> {
    /// Frequencies.
    pub freq: &'a [f32],
    /// Phases.
    pub phase: &'a [f32],
}

/// `[n, T]`.
pub(crate) fn encode(dt: &[f32], time: TimeWeights<'_>) -> Vec<f32> {
    let width = time.freq.len();
    let mut out = vec![0.0; dt.len() * width];
    if width > 0 {
        let rows = DisjointRows::new(&mut out, width);
        in_chunks(dt.len(), CHUNK, |chunk| {
            // SAFETY: chunks do not overlap.
            let out = unsafe { rows.rows(chunk.clone()) };
            for (row, &dt) in out.chunks_exact_mut(width).zip(&dt[chunk]) {
                cos_row(row, dt, time.freq, time.phase);
            }
        });
    }
    out
}

/// Gradients of `freq` and `phase`, given the gradient of the encoding.
pub(crate) fn encode_backward(dt: &[f32], time: TimeWeights<'_>, grad: &[f32]) -> [Vec<f32>; 2] {
    let width = time.freq.len();
    let (mut freq, mut phase) = (vec![0.0; width], vec![0.0; width]);
    if width > 0 {
        let mut partial = vec![0.0; dt.len().div_ceil(CHUNK) * 2 * width];
        let sums = DisjointRows::new(&mut partial, 2 * width);
        in_chunks(dt.len(), CHUNK, |chunk| {
            let task = chunk.start / CHUNK;
            // SAFETY: each chunk has its own row.
            let (freq, phase) = unsafe { sums.rows(task..task + 1) }.split_at_mut(width);
            let mut sine = vec![0.0; width];
            for row in chunk {
                sin_row(&mut sine, dt[row], time.freq, time.phase);
                add_time_gradient(freq, phase, dt[row], &sine, &grad[row * width..][..width]);
            }
        });
        sum_rows(&partial, [&mut freq, &mut phase]);
    }
    [freq, phase]
}

/// Sums rows one after the other. Each row is the concatenation of as many numbers as `sums` have.
pub(crate) fn sum_rows<const N: usize>(rows: &[f32], sums: [&mut [f32]; N]) {
    let width = sums.iter().map(|sum| sum.len()).sum::<usize>();
    let mut start = 0;
    for sum in sums {
        for row in rows.chunks_exact(width.max(1)) {
            add(sum, &row[start..][..sum.len()]);
        }
        start += sum.len();
    }
}
