//! Measures this machine: the peak rates with which a kernel's time is compared.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use crate::cpu::product::bf16::Precision;
use crate::cpu::product::gemm::{Matrix, Packed, WriteMode, multiply};
use crate::cpu::vector::simd::vectorised;

/// Rows, inner side and columns of the product: about the gates of a batch's nodes, without padding.
const SHAPE: [usize; 3] = [840, 300, 304];
/// Products of one measurement.
const PRODUCTS: usize = 8;
/// Numbers of each of the triad's arrays: 64 MB, beyond the last cache of most machines.
const TRIAD: usize = 16 << 20;
/// Number of measurements. The best one counts, since other work can only slow them down.
const TRIES: usize = 7;

/// Floating-point operations per second of products of single-precision matrices, `[840, 300] [300, 304]`, on every
/// thread of the current pool at once. The right side is packed beforehand, as weights are.
pub fn gemm_rate() -> f64 {
    let [rows, inner, columns] = SHAPE;
    let threads = rayon::current_num_threads();
    let run = || {
        rayon::broadcast(|_| {
            let (lhs, rhs) = (vec![0.5f32; rows * inner], vec![0.25f32; inner * columns]);
            let mut out = vec![0.0f32; rows * columns];
            let mut packed = Packed::default();
            packed.rows(Matrix::new(&rhs, inner, columns, columns), Precision::F32);
            let mut product =
                || multiply(&mut out, columns, WriteMode::Replace, Matrix::new(&lhs, rows, inner, inner), &packed);
            product();
            let start = Instant::now();
            (0..PRODUCTS).for_each(|_| product());
            let seconds = start.elapsed().as_secs_f64();
            black_box(&out);
            seconds
        })
    };
    let slowest = (0..TRIES).map(|_| run().into_iter().fold(0.0, f64::max)).fold(f64::INFINITY, f64::min);
    (2 * rows * inner * columns * PRODUCTS * threads) as f64 / slowest
}

/// Bytes per second of `a = b + s c` over arrays larger than the caches, on the threads of the current pool: two reads
/// and a write per number.
pub fn bandwidth() -> f64 {
    let (b, c) = (vec![1.0f32; TRIAD], vec![2.0f32; TRIAD]);
    let mut a = vec![0.0f32; TRIAD];
    let part = TRIAD.div_ceil(rayon::current_num_threads());
    let mut run = || {
        let start = Instant::now();
        a.par_chunks_mut(part)
            .zip(b.par_chunks(part).zip(c.par_chunks(part)))
            .for_each(|(a, (b, c))| triad(a, b, c, 3.0));
        black_box(&a);
        start.elapsed().as_secs_f64()
    };
    let seconds = (0..TRIES).map(|_| run()).fold(f64::INFINITY, f64::min);
    (3 * size_of::<f32>() * TRIAD) as f64 / seconds
}

vectorised! {
    fn triad<I>(a: &mut [f32], b: &[f32], c: &[f32], scale: f32) {
        for (a, (&b, &c)) in a.iter_mut().zip(b.iter().zip(c)) {
            *a = I::mul_add(scale, c, b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_this_world() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        let (gemm, bytes) = pool.install(|| (gemm_rate(), bandwidth()));
        assert!((1e8..1e13).contains(&gemm), "{gemm} operations a second");
        assert!((1e8..1e12).contains(&bytes), "{bytes} bytes a second");
    }
}
