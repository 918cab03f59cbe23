//! Products of numbers rounded to bfloat16, summed in single precision: one instruction does twice as many.
use crate::cpu::product::gemm::{Matrix, WriteMode};
use crate::cpu::product::scratch::with_words;
use crate::cpu::vector::simd::vectorised;

/// The form in which products read their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Rounded to the 8 bits of a bfloat16, in forward products and in gradients of inputs; sums, and gradients of
    /// weights, are in single precision. Only on processors that [`have`](Precision::available) the instructions.
    Bf16,
}

impl Precision {
    /// Whether this processor has the instructions, and the [`SimdLevel`](crate::cpu::SimdLevel) in use also has them.
    pub fn available(self) -> bool {
        match self {
            Self::F32 => true,
            #[cfg(target_arch = "x86_64")]
            Self::Bf16 => {
                crate::cpu::vector::simd::level() == crate::cpu::vector::simd::SimdLevel::Avx512
                    && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Bf16 => false,
        }
    }
}

/// Columns of a panel: as many as the kernel writes side by side.
pub(crate) const PANEL: usize = 64;

/// `x` rounded to the nearest bfloat16, ties to even; the upper half of its bits.
#[inline(always)]
fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    // a NaN stays a NaN: rounding up could make it an infinity
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    (if x.is_nan() { bits >> 16 | 0x40 } else { rounded }) as u16
}

/// Two numbers of one column, one below the other.
#[inline(always)]
fn pair(upper: f32, lower: f32) -> u32 {
    u32::from(round(upper)) | u32::from(round(lower)) << 16
}

vectorised! {
    /// Numbers of a row, two to a word.
    fn pairs_of<I>(words: &mut [u32], numbers: &[f32]) {
        let (twos, rest) = numbers.as_chunks::<2>();
        for (word, &[upper, lower]) in words.iter_mut().zip(twos) {
            *word = pair(upper, lower);
        }
        if let (Some(word), [last]) = (words.last_mut(), rest) {
            *word = pair(*last, 0.0);
        }
    }
}

/// Packs a matrix `[depth, columns]` in panels of pairs of rows; `row` writes some of the numbers of a row, from a
/// column on.
pub(crate) fn pack(panels: &mut Vec<u32>, depth: usize, columns: usize, row: impl Fn(usize, usize, &mut [f32])) {
    let pairs = depth.div_ceil(2);
    panels.clear();
    panels.resize(pairs * columns.next_multiple_of(PANEL), 0);
    let (mut upper, mut lower) = ([0.0; PANEL], [0.0; PANEL]);
    for (p, panel) in panels.chunks_exact_mut((pairs * PANEL).max(1)).enumerate() {
        let width = PANEL.min(columns - p * PANEL);
        for (i, out) in panel.chunks_exact_mut(PANEL).enumerate() {
            row(2 * i, p * PANEL, &mut upper[..width]);
            match 2 * i + 1 < depth {
                true => row(2 * i + 1, p * PANEL, &mut lower[..width]),
                false => lower.fill(0.0),
            }
            out[..width]
                .iter_mut()
                .zip(upper.iter().zip(&lower))
                .for_each(|(out, (&upper, &lower))| *out = pair(upper, lower));
        }
    }
}

/// `out = lhs rhs` or `out += lhs rhs` with `rhs` `[depth, columns]` packed; see
/// [`multiply`](crate::cpu::product::gemm::multiply).
pub(crate) fn multiply(out: &mut [f32], stride: usize, into: WriteMode, lhs: Matrix<'_>, panels: &[u32], room: usize) {
    assert!(Precision::Bf16.available(), "this processor has no instructions for bfloat16");
    let pairs = lhs.columns.div_ceil(2);
    with_words(lhs.rows * pairs, |words| {
        for (row, words) in words.chunks_exact_mut(pairs.max(1)).enumerate() {
            pairs_of(words, &lhs.elements[row * lhs.stride..][..lhs.columns]);
        }
        #[cfg(target_arch = "x86_64")]
        for (p, panel) in panels.chunks_exact((pairs * PANEL).max(1)).enumerate() {
            let vectors = PANEL.min(room - p * PANEL).div_ceil(16);
            for row in (0..lhs.rows).step_by(x86::ROWS) {
                let rows = x86::ROWS.min(lhs.rows - row);
                assert!((row + rows - 1) * stride + p * PANEL + vectors * 16 <= out.len(), "no room for the product");
                // SAFETY: the processor has the instructions; `out` has room, the words `rows` rows and the panel
                // `pairs` of them.
                unsafe {
                    let (out, words) =
                        (out.as_mut_ptr().add(row * stride + p * PANEL), words.as_ptr().add(row * pairs));
                    x86::KERNELS[rows - 1][vectors - 1](
                        out,
                        stride,
                        into == WriteMode::Add,
                        words,
                        panel.as_ptr(),
                        pairs,
                    );
                }
            }
        }
    });
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::PANEL;
    use std::arch::x86_64::*;

    /// Most rows a kernel writes.
    pub(crate) const ROWS: usize = 6;

    type Kernel = unsafe fn(*mut f32, usize, bool, *const u32, *const u32, usize);

    /// By rows and vectors, each less one.
    pub(crate) const KERNELS: [[Kernel; 4]; ROWS] = [
        [kernel::<1, 1>, kernel::<1, 2>, kernel::<1, 3>, kernel::<1, 4>],
        [kernel::<2, 1>, kernel::<2, 2>, kernel::<2, 3>, kernel::<2, 4>],
        [kernel::<3, 1>, kernel::<3, 2>, kernel::<3, 3>, kernel::<3, 4>],
        [kernel::<4, 1>, kernel::<4, 2>, kernel::<4, 3>, kernel::<4, 4>],
        [kernel::<5, 1>, kernel::<5, 2>, kernel::<5, 3>, kernel::<5, 4>],
        [kernel::<6, 1>, kernel::<6, 2>, kernel::<6, 3>, kernel::<6, 4>],
    ];

    /// The same bits as pairs of bfloat16.
    #[inline(always)]
    fn halves(bits: __m512i) -> __m512bh {
        // SAFETY: both have 512 bits, and any will do.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) }
    }

    /// `R` rows of `V` vectors: the sum over `pairs` of two rows of `words` times two rows of the panel.
    ///
    /// # Safety
    /// The processor has AVX-512 BF16; `out` has room for `R` rows `stride` apart, `words` has `R * pairs` and `panel`
    /// `pairs * PANEL`.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn kernel<const R: usize, const V: usize>(
        out: *mut f32,
        stride: usize,
        add: bool,
        words: *const u32,
        panel: *const u32,
        pairs: usize,
    ) {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for i in 0..pairs {
            let mut columns = [_mm512_setzero_si512(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                // SAFETY: within the panel.
                *column = unsafe { _mm512_loadu_si512(panel.add(i * PANEL + v * 16).cast()) };
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: within the words.
                let two = halves(_mm512_set1_epi32(unsafe { *words.add(r * pairs + i) } as i32));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_dpbf16_ps(*sum, two, halves(column));
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                // SAFETY: `out` has room.
                unsafe {
                    let out = out.add(r * stride + v * 16);
                    _mm512_storeu_ps(out, if add { _mm512_add_ps(_mm512_loadu_ps(out), sum) } else { sum });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::product::gemm::{Packed, padded};

    fn rounded(x: f32) -> f32 {
        f32::from_bits(u32::from(round(x)) << 16)
    }

    #[test]
    fn rounding_goes_to_the_nearest_and_ties_to_even() {
        for (x, expected) in
            [(1.0, 1.0), (1.003_906_3, 1.0), (1.011_718_8, 1.015_625), (-2.567_8, -2.562_5), (f32::MAX, f32::INFINITY)]
        {
            assert_eq!(rounded(x), expected, "{x}");
        }
        assert!(rounded(f32::NAN).is_nan());
    }

    /// Sums of products of small whole numbers are exact in both precisions.
    #[test]
    fn products_are_sums_over_the_shared_side_at_odd_shapes() {
        if !Precision::Bf16.available() {
            return println!("skipped: this processor has no instructions for bfloat16");
        }
        let numbers = |count: usize, salt: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 7 + salt * 13) % 23) as f32 - 11.0).collect()
        };
        for (m, n, k) in [(1, 1, 1), (5, 7, 9), (7, 16, 1), (13, 100, 33), (50, 65, 40), (3, 130, 7), (2, 20, 0)] {
            let (a, b, stride) = (numbers(m * k, 1), numbers(k * n, 2), padded(n));
            let mut packed = Packed::default();
            packed.rows(Matrix::new(&b, k, n, n), Precision::Bf16);
            for (into, base) in [(WriteMode::Replace, 0.0), (WriteMode::Add, 1.0)] {
                let mut out = vec![1.0; m * stride];
                crate::cpu::product::gemm::multiply(&mut out, stride, into, Matrix::new(&a, m, k, k), &packed);
                for at in 0..m * n {
                    let (i, j) = (at / n, at % n);
                    let expected: f32 = (0..k).map(|x| a[i * k + x] * b[x * n + j]).sum();
                    assert_eq!(out[i * stride + j], base + expected, "[{i}, {j}] of {m} {n} {k}");
                }
            }
        }
    }
}
