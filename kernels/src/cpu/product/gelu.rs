//! The Gaussian error linear unit, `gelu(x) = x (1 + erf(x / sqrt 2)) / 2` (Hendrycks and Gimpel, 2016,
//! arXiv:1606.08415), followed by dropout.
use crate::Dropout;
use crate::cpu::product::linear::PaddedRows;
use crate::cpu::vector::math::{erf, exp};
use crate::cpu::vector::parallel::{DisjointRows, in_chunks};
use crate::cpu::vector::simd::{Isa, vectorised};
use crate::plan::dropout::factor;
use std::f32::consts::FRAC_1_SQRT_2;

/// Rows per task.
const TILE: usize = 48;
/// `1 / sqrt(2 pi)`.
const DENSITY: f32 = 0.398_942_3;

/// The share of a normal distribution that lies below `x`.
#[inline(always)]
fn below<I: Isa>(x: f32) -> f32 {
    I::mul_add(erf::<I>(x * FRAC_1_SQRT_2), 0.5, 0.5)
}

vectorised! {
    fn gelu<I>(out: &mut [f32], x: &[f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x * below::<I>(x);
        }
    }
}

vectorised! {
    /// Multiplies a gradient by the derivative at `x`.
    fn gelu_slope<I>(grad: &mut [f32], x: &[f32]) {
        for (grad, &x) in grad.iter_mut().zip(x) {
            *grad *= I::mul_add(x * DENSITY, exp::<I>(-0.5 * x * x), below::<I>(x));
        }
    }
}

vectorised! {
    /// Multiplies numbers by their dropout factors. The first number has index `first`.
    fn drop_numbers<I>(numbers: &mut [f32], first: u64, mixed_seed: u64, rate: f32) {
        for (i, x) in numbers.iter_mut().enumerate() {
            *x *= factor(mixed_seed, rate, first.wrapping_add(i as u64));
        }
    }
}

/// Calls `each` with every row of `rows` and its index.
fn in_rows(rows: &mut PaddedRows, each: impl Fn(usize, &mut [f32]) + Sync) {
    let (count, stride) = (rows.rows(), rows.stride());
    let all = DisjointRows::new(&mut rows.values, stride);
    in_chunks(count, TILE, |tile| {
        // SAFETY: tiles do not overlap.
        let out = unsafe { all.rows(tile.clone()) };
        tile.zip(out.chunks_exact_mut(stride.max(1))).for_each(|(row, out)| each(row, out));
    });
}

fn drop_row(numbers: &mut [f32], row: usize, dropout: Option<Dropout>) {
    let Some(dropout) = dropout else { return };
    let first = (row * numbers.len()) as u64;
    drop_numbers(numbers, first, dropout.mixed_seed(), dropout.rate);
}

/// Applies dropout to `rows`, or to their gradient. Number `i` of row `r` has index `r * columns + i`.
pub fn drop_rows(rows: &mut PaddedRows, dropout: Option<Dropout>) {
    let columns = rows.columns();
    if dropout.is_some() {
        in_rows(rows, |row, numbers| drop_row(&mut numbers[..columns], row, dropout));
    }
}

/// Writes `gelu(x)` after dropout.
pub fn gelu_rows(x: &PaddedRows, dropout: Option<Dropout>, out: &mut PaddedRows) {
    let columns = x.columns();
    out.resize(x.rows(), columns);
    in_rows(out, |row, numbers| {
        let (numbers, rest) = numbers.split_at_mut(columns);
        gelu(numbers, x.row(row));
        drop_row(numbers, row, dropout);
        rest.fill(0.0);
    });
}

/// Converts the gradient of the output of [`gelu_rows`] into that of `x`, in place.
///
/// # Panics
/// If the gradient's shape is not that of `x`.
pub fn gelu_rows_backward(x: &PaddedRows, dropout: Option<Dropout>, grad: &mut PaddedRows) {
    let columns = x.columns();
    assert_eq!((grad.rows(), grad.columns()), (x.rows(), columns), "the gradient is not like the rows");
    in_rows(grad, |row, numbers| {
        gelu_slope(&mut numbers[..columns], x.row(row));
        drop_row(&mut numbers[..columns], row, dropout);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32], columns: usize) -> PaddedRows {
        let mut rows = PaddedRows::default();
        rows.zeros(values.len() / columns, columns);
        values.chunks(columns).enumerate().for_each(|(i, row)| rows.row_mut(i).copy_from_slice(row));
        rows
    }

    fn numbers(rows: &PaddedRows) -> Vec<f32> {
        (0..rows.rows()).flat_map(|row| rows.row(row).to_vec()).collect()
    }

    fn forward(x: &PaddedRows, dropout: Option<Dropout>) -> PaddedRows {
        let mut y = PaddedRows::default();
        gelu_rows(x, dropout, &mut y);
        y
    }

    #[test]
    fn it_has_the_values_that_pytorch_has() {
        // torch.nn.functional.gelu in double precision
        let x = [-6.0, -3.0, -1.5, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 4.5, 10.0];
        let expected = [
            -5.919_525e-9,
            -4.049_694e-3,
            -0.100_210_8,
            -0.158_655_25,
            -0.154_268_77,
            0.0,
            0.149_676_58,
            0.841_344_7,
            1.954_499_7,
            4.499_984_7,
            10.0,
        ];
        for (found, expected) in numbers(&forward(&of(&x, 11), None)).into_iter().zip(expected) {
            assert!((found - expected).abs() < 3e-7, "{found} for {expected}");
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let x: Vec<f32> = (0..63).map(|i| (i as f32 - 31.0) / 8.0).collect();
        let dropout = Some(Dropout { rate: 0.3, seed: 5 });
        for dropout in [None, dropout] {
            let slopes: Vec<f32> = (0..63).map(|i| (i as f32).sin()).collect();
            let mut grad = of(&slopes, 21);
            gelu_rows_backward(&of(&x, 21), dropout, &mut grad);
            let moved = |by: f32| numbers(&forward(&of(&x.iter().map(|x| x + by).collect::<Vec<_>>(), 21), dropout));
            let (up, down) = (moved(5e-3), moved(-5e-3));
            for (i, found) in numbers(&grad).into_iter().enumerate() {
                let expected = (up[i] - down[i]) / 1e-2 * slopes[i];
                assert!((found - expected).abs() < 2e-4, "at {}: {found} for {expected}", x[i]);
            }
        }
    }

    #[test]
    fn dropout_drops_its_share_the_same_whatever_is_dropped_from() {
        let dropout = Some(Dropout { rate: 0.25, seed: 9 });
        let mut ones = of(&[1.0; 5000], 50);
        drop_rows(&mut ones, dropout);
        let dropped = numbers(&ones).iter().filter(|x| **x == 0.0).count();
        assert!((1100..1400).contains(&dropped), "{dropped}");
        let found = forward(&of(&[1.0; 5000], 50), dropout);
        let zeros = |rows: &PaddedRows| numbers(rows).iter().map(|x| *x == 0.0).collect::<Vec<_>>();
        assert_eq!(zeros(&found), zeros(&ones));
        let one_by_one = |dropout: Dropout| (0..5000).map(|i| dropout.factor(i)).collect::<Vec<_>>();
        assert_eq!(Some(numbers(&ones)), dropout.map(one_by_one));
    }
}
