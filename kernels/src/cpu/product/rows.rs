//! Inner products of a few rows.
use crate::cpu::vector::blocks::{BLOCK, Block, add_product, sum_lanes};
use crate::cpu::vector::simd::{Isa, vectorised};

#[inline(always)]
fn dot<I: Isa>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes: Block = [0.0; BLOCK];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<BLOCK>(), b.as_chunks::<BLOCK>());
    a.iter().zip(b).for_each(|(a, b)| add_product::<I>(&mut lanes, a, b));
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane = I::mul_add(*a, *b, *lane);
    }
    sum_lanes(&lanes)
}

vectorised! {
    /// Inner products of all pairs of rows of `width` numbers, those of `a` followed by those of `b`, each pair once:
    /// of the first row with itself and all later rows, then of the second, and so on. `n (n + 1) / 2` numbers for `n`
    /// rows; a shorter `out` gets the first of them.
    pub fn pairwise_dot_products<I>(out: &mut [f32], a: &[f32], b: &[f32], width: usize) {
        let rows = || a.chunks_exact(width).chain(b.chunks_exact(width));
        let pairs = rows().enumerate().flat_map(|(i, one)| rows().skip(i).map(move |other| (one, other)));
        for (out, (one, other)) in out.iter_mut().zip(pairs) {
            *out = dot::<I>(one, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_each_two_rows_in_order() {
        for width in [1, 5, 16, 40] {
            let numbers = |rows: usize, from: f32| -> Vec<f32> {
                (0..rows * width).map(|i| (i as f32 * 0.7 + from).sin()).collect()
            };
            let (a, b) = (numbers(2, 0.0), numbers(3, 9.0));
            let all = [&a[..], &b].concat();
            let rows: Vec<&[f32]> = all.chunks(width).collect();
            let exact = |one: &[f32], other: &[f32]| -> f64 {
                one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let expected: Vec<f64> =
                (0..5).flat_map(|i| (i..5).map(move |j| (i, j))).map(|(i, j)| exact(rows[i], rows[j])).collect();
            let mut found = vec![f32::NAN; 15];
            pairwise_dot_products(&mut found, &a, &b, width);
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{width}: {found} is not {expected}");
            }
        }
    }
}
