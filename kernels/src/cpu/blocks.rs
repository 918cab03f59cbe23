//! Rows padded with zeros to whole vectors, so that inner loops have no remainder.
use super::simd::{Isa, vectorised};

/// Numbers in a block: one AVX-512 register, two AVX2 ones.
pub(super) const BLOCK: usize = 16;
/// One block of a padded row.
pub(super) type Block = [f32; BLOCK];

/// Blocks of a row of `width` numbers.
pub(super) fn blocks(width: usize) -> usize {
    width.div_ceil(BLOCK)
}

#[inline(always)]
fn add_product<I: Isa>(sum: &mut Block, a: &Block, b: &Block) {
    for i in 0..BLOCK {
        sum[i] = I::mul_add(a[i], b[i], sum[i]);
    }
}

#[inline(always)]
fn dot<I: Isa>(a: &[Block], b: &[Block]) -> f32 {
    // two sums hide the latency of an addition
    let (mut even, mut odd) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<2>(), b.as_chunks::<2>());
    for ([a, c], [b, d]) in a.iter().zip(b) {
        add_product::<I>(&mut even, a, b);
        add_product::<I>(&mut odd, c, d);
    }
    if let ([a], [b]) = (a_rest, b_rest) {
        add_product::<I>(&mut even, a, b);
    }
    let mut total = [0.0f32; BLOCK];
    for i in 0..BLOCK {
        total[i] = even[i] + odd[i];
    }
    let mut half = BLOCK / 2;
    while half > 0 {
        for i in 0..half {
            total[i] += total[i + half];
        }
        half /= 2;
    }
    total[0]
}

vectorised! {
    /// `out[k] = query . rows[k]`.
    pub(super) fn dots<I>(out: &mut [f32], query: &[Block], rows: &[Block]) {
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(query.len())) {
            *out = dot::<I>(query, row);
        }
    }
}

vectorised! {
    /// `out = sum over k of weights[k] * rows[k]`.
    pub(super) fn mix<I>(out: &mut [Block], weights: &[f32], rows: &[Block]) {
        let width = out.len();
        for (column, out) in out.iter_mut().enumerate() {
            let mut sum = [0.0f32; BLOCK];
            for (&weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
                let row = &row[column];
                for i in 0..BLOCK {
                    sum[i] = I::mul_add(weight, row[i], sum[i]);
                }
            }
            *out = sum;
        }
    }
}
