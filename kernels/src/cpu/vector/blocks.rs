//! Rows padded with zeros to whole vectors, so that inner loops have no remainder.
use crate::cpu::vector::simd::{Isa, vectorised};

/// Numbers in a block: one AVX-512 register, two AVX2 ones.
pub(crate) const BLOCK: usize = 16;
/// One block of a padded row.
pub(crate) type Block = [f32; BLOCK];

/// Blocks of a row of `width` numbers.
pub(crate) fn blocks(width: usize) -> usize {
    width.div_ceil(BLOCK)
}

#[inline(always)]
pub(crate) fn add_product<I: Isa>(sum: &mut Block, a: &Block, b: &Block) {
    for i in 0..BLOCK {
        sum[i] = I::mul_add(a[i], b[i], sum[i]);
    }
}

/// `a . b`, not yet added up over the lanes.
#[inline(always)]
fn dot_lanes<I: Isa>(out: &mut Block, a: &[Block], b: &[Block]) {
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
    for i in 0..BLOCK {
        out[i] = even[i] + odd[i];
    }
}

/// Sum over the lanes, in pairs.
#[inline(always)]
pub(crate) fn sum_lanes(lanes: &Block) -> f32 {
    let mut sums = *lanes;
    let mut half = BLOCK / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

vectorised! {
    /// `out[k] = query . rows[k]`. `lanes` is working memory for as many blocks as `out` has numbers: adding up over
    /// lanes in the same loop makes the compiler split the registers of the products.
    pub(crate) fn dots<I>(out: &mut [f32], lanes: &mut [Block], query: &[Block], rows: &[Block]) {
        for (lanes, row) in lanes.iter_mut().zip(rows.chunks_exact(query.len())) {
            dot_lanes::<I>(lanes, query, row);
        }
        for (out, lanes) in out.iter_mut().zip(lanes) {
            *out = sum_lanes(lanes);
        }
    }
}

vectorised! {
    /// `out = sum over k of weights[k] * rows[k]`.
    pub(crate) fn mix<I>(out: &mut [Block], weights: &[f32], rows: &[Block]) {
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
