//! Matrix products on padded rows: our own loops around the `gemm` library's micro-kernels.
//!
//! The library's own driver allocates on every call and packs operands each time. Here weights are packed once per step
//! ([`Packed`]), activations are read in place, and nothing is allocated. The order of computation depends only on the
//! shapes, so a product has the same bits for any number of threads.
use crate::cpu::product::bf16;
use crate::cpu::product::bf16::Precision;
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::simd::{SimdLevel, level};
use gemm_common::microkernel::MicroKernelFn;
use std::ops::Range;

/// Every row is padded to a multiple of this, because micro-kernels write whole vectors.
pub(crate) const PAD: usize = 16;
/// Summands of a gradient that are added before the sum is written out, so that the operands stay in the second-level
/// cache.
const DEPTH: usize = 256;
/// Rows of a gradient per task: a multiple of the rows that a micro-kernel writes.
const CHUNK: usize = 18;
/// Operands with more rows than this are read once per thread, not once per chunk.
const MANY_ROWS: usize = 4096;
/// With fewer weights than this, packing on a second thread does not pay.
const SMALL_PACK: usize = 1 << 14;
/// With fewer multiplications than this, a second thread does not pay.
const SMALL: usize = 1 << 18;

/// `width`, padded.
pub(crate) fn padded(width: usize) -> usize {
    width.next_multiple_of(PAD)
}

/// The micro-kernels of one instruction set. In the library's terms the output is column-major, so its rows `m` are our
/// columns.
struct Micro {
    /// Numbers in a vector.
    lanes: usize,
    /// Vectors a micro-kernel writes side by side.
    vectors: usize,
    /// Rows it writes below each other.
    rows: usize,
    /// `[vectors - 1][rows - 1]`
    kernels: fn(usize, usize) -> MicroKernelFn<f32>,
}

/// The micro-kernels of this processor.
fn micro() -> Micro {
    #[cfg(target_arch = "aarch64")]
    use gemm_f32::microkernel::neon::f32 as baseline;
    #[cfg(not(target_arch = "aarch64"))]
    use gemm_f32::microkernel::scalar::f32 as baseline;
    #[cfg(target_arch = "x86_64")]
    use gemm_f32::microkernel::{avx512f::f32 as avx512, fma::f32 as fma};
    #[cfg(target_arch = "aarch64")]
    const LANES: usize = 4;
    #[cfg(not(target_arch = "aarch64"))]
    const LANES: usize = 1;
    match level() {
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx512 => {
            Micro { lanes: 16, vectors: avx512::MR_DIV_N, rows: avx512::NR, kernels: |v, r| avx512::UKR[v - 1][r - 1] }
        }
        #[cfg(target_arch = "x86_64")]
        SimdLevel::Avx2 => {
            Micro { lanes: 8, vectors: fma::MR_DIV_N, rows: fma::NR, kernels: |v, r| fma::UKR[v - 1][r - 1] }
        }
        SimdLevel::Baseline => Micro {
            lanes: LANES,
            vectors: baseline::MR_DIV_N,
            rows: baseline::NR,
            kernels: |v, r| baseline::UKR[v - 1][r - 1],
        },
    }
}

/// Rows of numbers read in place: row `i` begins at `i * stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) elements: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

impl<'a> Matrix<'a> {
    pub(crate) fn new(elements: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride || rows <= 1, "rows of {columns} are {stride} apart");
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + columns };
        assert!(
            needed <= elements.len(),
            "[{rows}, {columns}] with rows {stride} apart needs {needed} numbers of {}",
            elements.len()
        );
        Self { elements, rows, columns, stride }
    }

    /// Copies numbers of column `column`, from row `first` on.
    fn column(&self, column: usize, first: usize, out: &mut [f32]) {
        if !out.is_empty() {
            let numbers = self.elements[first * self.stride + column..].iter().step_by(self.stride);
            out.iter_mut().zip(numbers).for_each(|(out, &x)| *out = x);
        }
    }
}

/// Whether a product replaces the old numbers or is added to them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WriteMode {
    Replace,
    Add,
}

/// The right side of a product, `[k, n]`, rearranged in panels of as many columns as a micro-kernel writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    precision: Precision,
    panels: Vec<f32>,
    /// The same as pairs of bfloat16, if that is the precision.
    pairs: Vec<u32>,
    depth: usize,
    columns: usize,
}

impl Packed {
    /// Packs a matrix `[depth, columns]`; `row` writes some of the numbers of a row, from a column on.
    fn pack(
        &mut self,
        depth: usize,
        columns: usize,
        precision: Precision,
        row: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) {
        let panel = panel_width();
        (self.depth, self.columns, self.precision) = (depth, columns, precision);
        if precision == Precision::Bf16 {
            return bf16::pack(&mut self.pairs, depth, columns, row);
        }
        self.panels.resize(depth * columns.next_multiple_of(panel), 0.0);
        let all = DisjointRows::new(&mut self.panels, depth * panel);
        let panels = columns.div_ceil(panel);
        in_chunks(panels, if depth * columns < SMALL_PACK { panels } else { 1 }, |chunk| {
            for p in chunk {
                let first = p * panel;
                let width = panel.min(columns - first);
                // SAFETY: each panel is written once.
                for (i, out) in unsafe { all.rows(p..p + 1) }.chunks_exact_mut(panel).enumerate() {
                    let (out, rest) = out.split_at_mut(width);
                    row(i, first, out);
                    rest.fill(0.0);
                }
            }
        });
    }

    /// Packs `matrix`, `[k, n]`.
    pub(crate) fn rows(&mut self, matrix: Matrix<'_>, precision: Precision) {
        self.pack(matrix.rows, matrix.columns, precision, |i, first, out| {
            out.copy_from_slice(&matrix.elements[i * matrix.stride + first..][..out.len()]);
        });
    }

    /// Packs the transpose of `matrix`, `[n, k]`.
    pub(crate) fn transpose(&mut self, matrix: Matrix<'_>, precision: Precision) {
        self.pack(matrix.columns, matrix.rows, precision, |i, first, out| matrix.column(i, first, out));
    }

    /// Packs the transpose of `matrix`, `[n, k]`, with the smaller `corner` added to its first rows and columns.
    pub(crate) fn transpose_sum(&mut self, matrix: Matrix<'_>, corner: Matrix<'_>, precision: Precision) {
        self.pack(matrix.columns, matrix.rows, precision, |i, first, out| {
            matrix.column(i, first, out);
            if i < corner.columns {
                let rows = first.min(corner.rows)..(first + out.len()).min(corner.rows);
                out.iter_mut().zip(rows).for_each(|(out, j)| *out += corner.elements[j * corner.stride + i]);
            }
        });
    }
}

fn panel_width() -> usize {
    let micro = micro();
    micro.lanes * micro.vectors
}

/// `out = lhs rhs` or `out += lhs rhs`, on this thread; rows of `out` are `stride` apart.
/// `out` is `[lhs.rows, n]`. Its rows have padding up to `n` rounded up to [`PAD`]: the padding is overwritten by
/// zeros, or kept if the product is added.
pub(crate) fn multiply(out: &mut [f32], stride: usize, into: WriteMode, lhs: Matrix<'_>, rhs: &Packed) {
    let micro = micro();
    let panel = micro.lanes * micro.vectors;
    let room = padded(rhs.columns);
    assert!(lhs.rows == 0 || (lhs.rows - 1) * stride + room <= out.len(), "no room for rows of {room}, {stride} apart");
    assert_eq!(lhs.columns, rhs.depth, "a matrix product with unequal sides");
    if rhs.depth == 0 && into == WriteMode::Replace {
        out.chunks_mut(stride).take(lhs.rows).for_each(|row| row[..room].fill(0.0));
    }
    if rhs.precision == Precision::Bf16 {
        return bf16::multiply(out, stride, into, lhs, &rhs.pairs, room);
    }
    for (p, numbers) in rhs.panels.chunks_exact((rhs.depth * panel).max(1)).enumerate() {
        let first = p * panel;
        let columns = panel.min(room - first);
        for row in (0..lhs.rows).step_by(micro.rows) {
            let rows = micro.rows.min(lhs.rows - row);
            let kernel = (micro.kernels)(columns.div_ceil(micro.lanes), rows);
            // SAFETY: rows and columns were checked above to lie in `out` and `lhs`; a panel has `depth` rows of
            // `panel` numbers.
            unsafe {
                kernel(
                    columns,
                    rows,
                    rhs.depth,
                    out.as_mut_ptr().add(row * stride + first),
                    numbers.as_ptr(),
                    lhs.elements.as_ptr().add(row * lhs.stride),
                    stride as isize,
                    1,
                    panel as isize,
                    1,
                    lhs.stride as isize,
                    1.0,
                    1.0,
                    u8::from(into == WriteMode::Add),
                    false,
                    false,
                    false,
                    numbers.as_ptr(),
                );
            }
        }
    }
}

/// `out = gradᵀ x` or `out += gradᵀ x`, on all threads: the gradient `[g, n]` of weights from that of their output
/// `[rows, g]` and their input `[rows, n]`.
///
/// Rows of `out` are `stride` apart; only their `n` columns are written. The rows of `x` have padding up to `n` rounded
/// up to [`PAD`].
pub(crate) fn gradient(out: &mut [f32], stride: usize, into: WriteMode, grad: Matrix<'_>, x: Matrix<'_>) {
    let chunk = match grad.rows {
        rows if rows * grad.columns * x.columns < SMALL => grad.columns,
        // Every task reads all of `x`, which does not fit in a cache: so one task per thread. The order of the sums
        // does not depend on the tasks.
        rows if rows > MANY_ROWS => grad.columns.div_ceil(rayon::current_num_threads()).next_multiple_of(CHUNK),
        _ => CHUNK,
    };
    gradient_in_chunks(chunk, out, stride, into, grad, x);
}

/// As [`gradient`], on this thread.
pub(crate) fn gradient_here(out: &mut [f32], stride: usize, into: WriteMode, grad: Matrix<'_>, x: Matrix<'_>) {
    gradient_in_chunks(grad.columns, out, stride, into, grad, x);
}

fn gradient_in_chunks(chunk: usize, out: &mut [f32], stride: usize, into: WriteMode, grad: Matrix<'_>, x: Matrix<'_>) {
    let (rows, g, n) = (grad.rows, grad.columns, x.columns);
    if g == 0 || n == 0 {
        return;
    }
    assert_eq!(x.rows, rows, "a gradient with unequal sides");
    assert!(n <= stride && (g - 1) * stride + n <= out.len(), "no room for [{g}, {n}] with rows {stride} apart");
    assert!(rows == 0 || (rows - 1) * x.stride + padded(n) <= x.elements.len(), "rows of {n} have no padding");
    let length = out.len();
    let all = DisjointRows::new(out, stride);
    in_chunks(g, chunk, |range| {
        let end = if range.end == g { length } else { range.end * stride };
        // SAFETY: the chunks do not overlap.
        let out = unsafe { all.numbers(range.start * stride..end) };
        gradient_rows(out, stride, into, grad, range, x);
    });
}

/// Some rows of a gradient, on this thread.
fn gradient_rows(
    out: &mut [f32],
    stride: usize,
    into: WriteMode,
    grad: Matrix<'_>,
    range: Range<usize>,
    x: Matrix<'_>,
) {
    let micro = micro();
    let panel = micro.lanes * micro.vectors;
    if grad.rows == 0 && into == WriteMode::Replace {
        out.chunks_mut(stride).for_each(|row| row[..x.columns].fill(0.0));
    }
    for depth in (0..grad.rows).step_by(DEPTH) {
        let summands = DEPTH.min(grad.rows - depth);
        let adds = into == WriteMode::Add || depth > 0;
        for first in (0..x.columns).step_by(panel) {
            let columns = panel.min(x.columns - first);
            for row in (0..range.len()).step_by(micro.rows) {
                let rows = micro.rows.min(range.len() - row);
                let kernel = (micro.kernels)(columns.div_ceil(micro.lanes), rows);
                // SAFETY: sides were checked by the caller; whole vectors of `x` are read, for which its rows have
                // room.
                unsafe {
                    kernel(
                        columns,
                        rows,
                        summands,
                        out.as_mut_ptr().add(row * stride + first),
                        x.elements.as_ptr().add(depth * x.stride + first),
                        grad.elements.as_ptr().add(depth * grad.stride + range.start + row),
                        stride as isize,
                        1,
                        x.stride as isize,
                        grad.stride as isize,
                        1,
                        1.0,
                        1.0,
                        u8::from(adds),
                        false,
                        false,
                        false,
                        x.elements.as_ptr(),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7 + salt * 13) % 23) as f32 - 11.0).collect()
    }

    /// Whole numbers below 2^24 are added without rounding, so that the results are exact.
    #[test]
    fn products_are_sums_over_the_shared_side_at_odd_shapes() {
        for (m, n, k) in
            [(1, 1, 1), (5, 7, 9), (7, 16, 1), (13, 100, 33), (200, 65, 40), (97, 130, 64), (3, 20, 0), (0, 4, 4)]
        {
            let (a, b) = (numbers(m * (k + 3), 1), numbers(k * n, 2));
            let (stride, expected) =
                (padded(n) + 16, |i: usize, j: usize| (0..k).map(|x| a[i * (k + 3) + x] * b[x * n + j]).sum::<f32>());
            let (mut straight, mut transposed) = (Packed::default(), Packed::default());
            straight.rows(Matrix::new(&b, k, n, n), Precision::F32);
            let flipped: Vec<f32> = (0..n * k).map(|at| b[at % k * n + at / k]).collect();
            transposed.transpose(Matrix::new(&flipped, n, k, k), Precision::F32);
            for (packed, into, base) in [(&straight, WriteMode::Replace, 0.0), (&transposed, WriteMode::Add, 1.0)] {
                let mut out = vec![1.0; m * stride];
                multiply(&mut out, stride, into, Matrix::new(&a, m, k, k + 3), packed);
                for (at, &value) in out.iter().enumerate() {
                    let (i, j) = (at / stride, at % stride);
                    if j < n {
                        assert_eq!(value, base + expected(i, j), "[{i}, {j}] of {m} {n} {k}");
                    } else if j >= padded(n) {
                        assert_eq!(value, 1.0, "what stands beside the room is kept");
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_are_sums_over_the_rows_at_odd_shapes() {
        for (g, n, rows) in
            [(1, 1, 1), (5, 7, 9), (300, 100, 300), (50, 201, 31), (7, 33, 0), (24, 16, 600), (50, 33, MANY_ROWS + 5)]
        {
            let x = padded(n);
            let (grad, input) = (numbers(rows * (g + 2), 3), numbers(rows * x, 4));
            for (into, base) in [(WriteMode::Replace, 0.0), (WriteMode::Add, 2.0)] {
                let mut out = vec![2.0; g * (n + 1)];
                gradient(&mut out, n + 1, into, Matrix::new(&grad, rows, g, g + 2), Matrix::new(&input, rows, n, x));
                for (at, &value) in out.iter().enumerate() {
                    let (i, j) = (at / (n + 1), at % (n + 1));
                    let sum: f32 = (0..rows).map(|r| grad[r * (g + 2) + i] * input[r * x + j.min(n - 1)]).sum();
                    assert_eq!(value, if j == n { 2.0 } else { base + sum }, "[{i}, {j}] of {g} {n} {rows}");
                }
            }
        }
    }
}
