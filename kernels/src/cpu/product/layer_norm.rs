//! Layer normalisation of rows.
use crate::cpu::product::linear::PaddedRows;
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::simd::vectorised;
use crate::cpu::vector::time::sum_rows;

/// Rows per task.
const TILE: usize = 48;
/// Number of partial sums in parallel.
const LANES: usize = 16;

/// `y = n w + b` with `n = (x - mean) / sqrt(variance + 1e-5)`, row by row. Saves the inputs of its backward pass.
#[derive(Clone, Debug, Default)]
pub struct LayerNorm {
    /// `[n, D]`, each row followed by one over the root.
    normal: PaddedRows,
    /// `[tasks, 2 D]`
    partial: Vec<f32>,
}

impl LayerNorm {
    /// Added to variances, as PyTorch does.
    pub const EPSILON: f32 = 1e-5;

    /// Writes `y` `[n, D]` from `x` `[n, D]`, `weight` `[D]` and `bias` `[D]`.
    ///
    /// # Panics
    /// If shapes do not fit together.
    pub fn forward(&mut self, x: &PaddedRows, [weight, bias]: [&[f32]; 2], y: &mut PaddedRows) {
        let columns = x.columns();
        assert_eq!([weight.len(), bias.len()], [columns; 2], "weight or bias is not [{columns}]");
        self.normal.zeros(x.rows(), columns + 1);
        y.zeros(x.rows(), columns);
        let (wide, stride) = (self.normal.stride(), y.stride());
        let (normal, out) =
            (DisjointRows::new(&mut self.normal.values, wide), DisjointRows::new(&mut y.values, stride));
        in_chunks(x.rows(), TILE, |tile| {
            // SAFETY: tiles do not overlap.
            let (normal, out) = unsafe { (normal.rows(tile.clone()), out.rows(tile.clone())) };
            for ((row, normal), out) in tile.zip(normal.chunks_exact_mut(wide)).zip(out.chunks_exact_mut(stride)) {
                normal[columns] = normalise(x.row(row), &mut normal[..columns]);
                scale(&mut out[..columns], &normal[..columns], weight, bias);
            }
        });
    }

    /// Gradients, given that of `y`; all are overwritten.
    pub fn backward(&mut self, y: &PaddedRows, weight: &[f32], of_parameters: [&mut [f32]; 2], of_x: &mut PaddedRows) {
        let columns = y.columns();
        of_x.zeros(y.rows(), columns);
        self.partial.clear();
        self.partial.resize(y.rows().div_ceil(TILE) * 2 * columns, 0.0);
        let (stride, normal) = (of_x.stride(), &self.normal);
        let (out, partial) =
            (DisjointRows::new(&mut of_x.values, stride), DisjointRows::new(&mut self.partial, 2 * columns));
        in_chunks(y.rows(), TILE, |tile| {
            // SAFETY: tiles do not overlap, and each has a row of sums of its own.
            let (out, sums) =
                unsafe { (out.rows(tile.clone()), partial.rows(tile.start / TILE..tile.start / TILE + 1)) };
            let (of_weight, of_bias) = sums.split_at_mut(columns);
            for (row, out) in tile.zip(out.chunks_exact_mut(stride)) {
                let (normal, rate) = normal.row(row).split_at(columns);
                row_gradient(&mut out[..columns], y.row(row), normal, rate[0], weight, of_weight, of_bias);
            }
        });
        let [of_weight, of_bias] = of_parameters;
        of_weight.fill(0.0);
        of_bias.fill(0.0);
        sum_rows(&self.partial, [of_weight, of_bias]);
    }
}

vectorised! {
    /// Writes the normalised `x`. Returns the factor of its distance from the mean.
    fn normalise<I>(x: &[f32], normal: &mut [f32]) -> f32 {
        let mut sums = [0.0f32; LANES];
        let (blocks, rest) = x.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                sums[lane] += block[lane];
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            *sum += x;
        }
        let mean = sums.iter().sum::<f32>() / x.len() as f32;
        let mut squares = [0.0f32; LANES];
        for block in blocks {
            for lane in 0..LANES {
                let off = block[lane] - mean;
                squares[lane] = I::mul_add(off, off, squares[lane]);
            }
        }
        for (square, &x) in squares.iter_mut().zip(rest) {
            *square = I::mul_add(x - mean, x - mean, *square);
        }
        let rate = 1.0 / (squares.iter().sum::<f32>() / x.len() as f32 + LayerNorm::EPSILON).sqrt();
        for (normal, &x) in normal.iter_mut().zip(x) {
            *normal = (x - mean) * rate;
        }
        rate
    }
}

vectorised! {
    fn scale<I>(out: &mut [f32], normal: &[f32], weight: &[f32], bias: &[f32]) {
        for (((out, &n), &w), &b) in out.iter_mut().zip(normal).zip(weight).zip(bias) {
            *out = I::mul_add(n, w, b);
        }
    }
}

vectorised! {
    /// `dx = rate (g - mean g - n mean(g n))` with `g = dy w`; adds a row's part to the gradients of weight and bias.
    fn row_gradient<I>(
        out: &mut [f32],
        grad: &[f32],
        normal: &[f32],
        rate: f32,
        weight: &[f32],
        of_weight: &mut [f32],
        of_bias: &mut [f32],
    ) {
        for ((out, &grad), &w) in out.iter_mut().zip(grad).zip(weight) {
            *out = grad * w;
        }
        for (((of_weight, of_bias), &grad), &n) in of_weight.iter_mut().zip(of_bias).zip(grad).zip(normal) {
            *of_weight = I::mul_add(grad, n, *of_weight);
            *of_bias += grad;
        }
        let (mut plain, mut along) = ([0.0f32; LANES], [0.0f32; LANES]);
        let ((blocks, rest), (normals, normals_left)) = (out.as_chunks::<LANES>(), normal.as_chunks::<LANES>());
        for (block, normals) in blocks.iter().zip(normals) {
            for lane in 0..LANES {
                plain[lane] += block[lane];
                along[lane] = I::mul_add(block[lane], normals[lane], along[lane]);
            }
        }
        for (lane, (&g, &n)) in rest.iter().zip(normals_left).enumerate() {
            plain[lane] += g;
            along[lane] = I::mul_add(g, n, along[lane]);
        }
        let share = 1.0 / normal.len() as f32;
        let (plain, along) = (plain.iter().sum::<f32>() * share, along.iter().sum::<f32>() * share);
        for (out, &n) in out.iter_mut().zip(normal) {
            *out = (*out - plain - n * along) * rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, columns: usize, seed: usize) -> PaddedRows {
        let mut rows = PaddedRows::default();
        rows.zeros(count, columns);
        for row in 0..count {
            for (i, x) in rows.row_mut(row).iter_mut().enumerate() {
                *x = ((row * 31 + i * 17 + seed) * 2_654_435_761 % 1000) as f32 / 500.0 - 1.0;
            }
        }
        rows
    }

    fn forward(x: &PaddedRows, parameters: [&[f32]; 2]) -> PaddedRows {
        let mut y = PaddedRows::default();
        LayerNorm::default().forward(x, parameters, &mut y);
        y
    }

    #[test]
    fn rows_have_mean_zero_and_variance_one_before_they_are_scaled() {
        for columns in [1, 3, 16, 17, 100] {
            let y = forward(&rows(60, columns, 1), [&vec![1.0; columns], &vec![0.0; columns]]);
            for row in 0..60 {
                let mean = y.row(row).iter().sum::<f32>() / columns as f32;
                let variance = y.row(row).iter().map(|y| y * y).sum::<f32>() / columns as f32;
                assert!(mean.abs() < 1e-5, "{columns} columns: mean {mean}");
                assert!(columns == 1 || (variance - 1.0).abs() < 1e-2, "{columns} columns: variance {variance}");
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for columns in [3, 16, 21] {
            let (x, slopes) = (rows(4, columns, 3), rows(4, columns, 7));
            let [weight, bias] = [5, 6].map(|seed| rows(1, columns, seed).row(0).to_vec());
            let value = |x: &PaddedRows, weight: &[f32], bias: &[f32]| -> f64 {
                let y = forward(x, [weight, bias]);
                let dots = |row| y.row(row).iter().zip(slopes.row(row)).map(|(y, s)| f64::from(y * s)).sum::<f64>();
                (0..4).map(dots).sum()
            };
            let (mut norm, mut y, mut of_x) = (LayerNorm::default(), PaddedRows::default(), PaddedRows::default());
            let (mut of_weight, mut of_bias) = (vec![9.0; columns], vec![9.0; columns]);
            norm.forward(&x, [&weight, &bias], &mut y);
            norm.backward(&slopes, &weight, [&mut of_weight, &mut of_bias], &mut of_x);
            let close = |what: &str, found: f32, up: f64, down: f64| {
                let expected = (up - down) / 2e-2;
                assert!(
                    (f64::from(found) - expected).abs() < 2e-2,
                    "{columns} columns, {what}: {found} for {expected}"
                );
            };
            let moved = |values: &[f32], i: usize, by: f32| {
                let mut values = values.to_vec();
                values[i] += by;
                values
            };
            for i in 0..columns {
                let by = |by| value(&x, &moved(&weight, i, by), &bias);
                close("weight", of_weight[i], by(1e-2), by(-1e-2));
                let by = |by| value(&x, &weight, &moved(&bias, i, by));
                close("bias", of_bias[i], by(1e-2), by(-1e-2));
                let by = |by| {
                    let mut x = x.clone();
                    x.row_mut(2)[i] += by;
                    value(&x, &weight, &bias)
                };
                close("x", of_x.row(2)[i], by(1e-2), by(-1e-2));
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (x, slopes) = (rows(500, 30, 1), rows(500, 30, 2));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let (mut norm, mut y, mut of_x) = (LayerNorm::default(), PaddedRows::default(), PaddedRows::default());
            let (mut of_weight, mut of_bias) = (vec![0.0; 30], vec![0.0; 30]);
            pool.install(|| {
                norm.forward(&x, [&[0.7; 30], &[0.1; 30]], &mut y);
                norm.backward(&slopes, &[0.7; 30], [&mut of_weight, &mut of_bias], &mut of_x);
            });
            [&y.values[..], &of_x.values, &of_weight, &of_bias]
                .concat()
                .into_iter()
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        };
        assert!(on(2) == on(1) && on(3) == on(1));
    }
}
