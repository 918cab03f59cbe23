//! Sums of squares of long vectors, and whether all their numbers are finite.
use crate::cpu::vector::simd::vectorised;
use rayon::prelude::*;

/// Numbers per task.
const CHUNK: usize = 1 << 14;
/// Number of partial sums in parallel, enough to hide the latency of an addition.
const LANES: usize = 64;

/// Sum of the squares of `values`. `partials` is a scratch buffer; a frequent caller reuses it.
pub fn sum_of_squares(values: &[f32], partials: &mut Vec<f64>) -> f64 {
    partials.clear();
    partials.resize(values.len().div_ceil(CHUNK), 0.0);
    partials.par_iter_mut().zip(values.par_chunks(CHUNK)).for_each(|(partial, values)| *partial = chunk(values));
    partials.iter().sum()
}

vectorised! {
    fn chunk<I>(values: &[f32]) -> f64 {
        let mut sums = [0.0f32; LANES];
        let (rows, rest) = values.as_chunks::<LANES>();
        for row in rows {
            for lane in 0..LANES {
                sums[lane] = I::mul_add(row[lane], row[lane], sums[lane]);
            }
        }
        for (sum, &value) in sums.iter_mut().zip(rest) {
            *sum = I::mul_add(value, value, *sum);
        }
        let mut whole = 0.0;
        for sum in sums {
            whole += f64::from(sum);
        }
        whole
    }
}

/// The position of the first number that is NaN or infinite.
pub fn first_not_finite(values: &[f32]) -> Option<usize> {
    let refused = |values: &[f32]| !all_finite(values);
    let (chunk, values) = match values.len() {
        0..=CHUNK => (0, Some(values).filter(|values| refused(values))?),
        _ => values.par_chunks(CHUNK).enumerate().find_first(|(_, values)| refused(values))?,
    };
    values.iter().position(|value| !value.is_finite()).map(|at| chunk * CHUNK + at)
}

vectorised! {
    fn all_finite<I>(values: &[f32]) -> bool {
        let mut beyond = false;
        for value in values {
            beyond |= value.to_bits() & 0x7f80_0000 == 0x7f80_0000;
        }
        !beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn it_is_the_sum_of_squares_for_any_length() {
        for count in [0, 1, 63, 64, 65, CHUNK - 1, CHUNK, 3 * CHUNK + 7] {
            let values = numbers(count);
            let expected: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let found = sum_of_squares(&values, &mut vec![1.0; 9]);
            assert!((found - expected).abs() <= 1e-6 * expected, "{count} numbers: {found} for {expected}");
        }
    }

    #[test]
    fn the_first_number_that_is_not_finite_is_found_at_any_place() {
        for count in [0, 1, 63, 64, 65, CHUNK, 3 * CHUNK + 7] {
            assert_eq!(first_not_finite(&numbers(count)), None);
            for at in [count / 2, count.saturating_sub(1), 0] {
                for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut values = numbers(count);
                    values.get_mut(at).into_iter().for_each(|value| *value = odd);
                    assert_eq!(first_not_finite(&values), Some(at).filter(|_| count > 0), "{count} numbers");
                }
            }
        }
        assert_eq!(first_not_finite(&[f32::MAX, f32::MIN_POSITIVE, -0.0, f32::MIN]), None);
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let values = numbers(20 * CHUNK + 11);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| sum_of_squares(&values, &mut Vec::new()).to_bits())
        };
        assert_eq!([on(2), on(3)], [on(1); 2]);
    }
}
