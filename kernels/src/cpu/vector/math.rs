//! Elementary functions without branches or calls, so that a loop over them becomes vector code.
//!
//! The polynomials are minimax fits on the interval given at each. A NaN stays a NaN.
use crate::cpu::vector::simd::{Isa, vectorised};
use std::f64::consts::{FRAC_1_PI, FRAC_PI_2, PI};

/// Adding this rounds a double to an integer and leaves the integer's parity in the lowest bit.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;
/// Adding this rounds a float to an integer and leaves the integer in the low bits.
const ROUND_F32: f32 = 12_582_912.0;

/// `sin(r)` for `|r| <= pi / 2`.
#[inline(always)]
fn sin_reduced<I: Isa>(r: f32) -> f32 {
    let s = r * r;
    let p = I::mul_add(s, -2.388_903_8e-8, 2.752_584_8e-6);
    let p = I::mul_add(s, p, -1.984_089e-4);
    let p = I::mul_add(s, p, 8.333_331e-3);
    let p = I::mul_add(s, p, -1.666_666_7e-1);
    I::mul_add(r * s, p, r)
}

/// Where an argument is reduced in integers: from here on the reduction in double precision would leave the interval of the
/// polynomial.
const WIDE: f32 = (1u64 << 50) as f32;

/// The first 256 binary digits of `2 / pi` after the point.
const TWO_OVER_PI: [u64; 4] =
    [0xa2f9_836e_4e44_1529, 0xfc27_57d1_f534_ddc0, 0xdb62_9599_3c43_9041, 0xfe51_63ab_debb_c561];

/// `x` less a whole number of turns, in `-pi..=pi`, for a finite `x` of at least [`WIDE`].
///
/// The mantissa is multiplied by those 96 digits of `2 / pi` that matter at its exponent, in integers: digits before them give
/// whole turns.
fn reduced(x: f32) -> f64 {
    let bits = x.to_bits();
    let (exponent, mantissa) = ((bits >> 23) & 0xff, u128::from((bits & 0x007f_ffff) | 0x0080_0000));
    // x = mantissa * 2^(exponent - 150), and the digit of the weight 2 in units of a quarter turn comes first
    let first = exponent as usize - 152;
    let digit = |word: usize| u128::from(TWO_OVER_PI.get(word).copied().unwrap_or(0));
    let (word, shift) = (first / 64, first % 64);
    let digits = ((digit(word) << 64 | digit(word + 1)) << shift) | (digit(word + 2) >> 1 >> (63 - shift));
    let turned = (mantissa.wrapping_mul(digits >> 32) << 32) as i128;
    let angle = turned as f64 * (FRAC_PI_2 / (1u128 << 126) as f64);
    if x.is_sign_negative() { -angle } else { angle }
}

/// Replaces the numbers of a row whose arguments are too large for the functions below.
#[cold]
fn wide_row(out: &mut [f32], dt: f32, freq: &[f32], phase: &[f32], of: fn(f64) -> f64) {
    for ((out, &freq), &phase) in out.iter_mut().zip(freq).zip(phase) {
        let x = dt * freq + phase;
        if x.abs() >= WIDE && x.is_finite() {
            *out = of(reduced(x)) as f32;
        }
    }
}

/// `cos(x)`, within 2e-7 of the exact cosine for `|x| <= 1e8`: the argument is reduced in double precision.
#[inline(always)]
pub(crate) fn cos<I: Isa>(x: f32) -> f32 {
    let x = f64::from(x);
    // x = (n + 1/2) pi + r, and cos(x) is sin(r) for odd n and -sin(r) for even n
    let rounded = I::mul_add_f64(x, FRAC_1_PI, -0.5) + ROUND_F64;
    let n = rounded - ROUND_F64;
    let r = I::mul_add_f64(n + 0.5, -PI, x);
    let flip = !rounded.to_bits() << 63;
    sin_reduced::<I>(f64::from_bits(r.to_bits() ^ flip) as f32)
}

/// `sin(x)`, within 2e-7 of the exact sine for `|x| <= 1e8`.
#[inline(always)]
pub(crate) fn sin<I: Isa>(x: f32) -> f32 {
    let x = f64::from(x);
    // x = n pi + r, and sin(x) is -sin(r) for odd n
    let rounded = I::mul_add_f64(x, FRAC_1_PI, ROUND_F64);
    let n = rounded - ROUND_F64;
    let r = I::mul_add_f64(n, -PI, x);
    let flip = rounded.to_bits() << 63;
    sin_reduced::<I>(f64::from_bits(r.to_bits() ^ flip) as f32)
}

/// `max(x, 0)`. A NaN stays a NaN, which [`f32::max`] would take for the 0.
#[inline(always)]
pub fn rectify(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `exp(x)` within 2 units in the last place; arguments below -87 and above 88 are taken as those.
#[inline(always)]
pub(crate) fn exp<I: Isa>(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    // x = n ln 2 + r with ln 2 in two parts, the first so short that n times it is exact
    let rounded = I::mul_add(x, std::f32::consts::LOG2_E, ROUND_F32);
    let n = rounded - ROUND_F32;
    let r = I::mul_add(n, -0.693_359_4, x);
    let r = I::mul_add(n, 2.121_944_4e-4, r);
    let p = I::mul_add(r, 1.990_757_3e-4, 1.394_858_2e-3);
    let p = I::mul_add(r, p, 8.333_286e-3);
    let p = I::mul_add(r, p, 4.166_624e-2);
    let p = I::mul_add(r, p, 1.666_666_7e-1);
    let p = I::mul_add(r, p, 0.5);
    let p = I::mul_add(r * r, p, r) + 1.0;
    p * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(crate) fn sigmoid<I: Isa>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<I>(-x))
}

/// `tanh(x)` within 4 units in the last place.
#[inline(always)]
pub(crate) fn tanh<I: Isa>(x: f32) -> f32 {
    let s = x * x;
    // near 0 the quotient below would cancel
    let p = I::mul_add(s, -5.664_791_6e-3, 2.061_601_1e-2);
    let p = I::mul_add(s, p, -5.373_863e-2);
    let p = I::mul_add(s, p, 1.333_154_2e-1);
    let p = I::mul_add(s, p, -3.333_329_3e-1);
    let near = I::mul_add(x * s, p, x);
    let far = 1.0 - 2.0 / (exp::<I>(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.625 { near } else { far.copysign(x) }
}

/// `erf(x)` within 2e-7.
#[inline(always)]
pub(crate) fn erf<I: Isa>(x: f32) -> f32 {
    let s = x * x;
    let p = I::mul_add(s, 7.853_858e-5, -8.010_192_5e-4);
    let p = I::mul_add(s, p, 5.188_328e-3);
    let p = I::mul_add(s, p, -2.685_381e-2);
    let p = I::mul_add(s, p, 1.128_358_5e-1);
    let p = I::mul_add(s, p, -3.761_262_6e-1);
    let p = I::mul_add(s, p, 1.283_791e-1);
    let near = I::mul_add(x, p, x);
    // the logarithm of 1 - erf, which is 0 in single precision from 4 on
    let t = x.abs();
    let t = if t > 4.0 { 4.0 } else { t };
    let q = I::mul_add(t, 1.863_800_9e-4, -2.947_667e-3);
    let q = I::mul_add(t, q, 2.183_809_7e-2);
    let q = I::mul_add(t, q, -1.031_068_2e-1);
    let q = I::mul_add(t, q, -6.381_447_3e-1);
    let q = I::mul_add(t, q, -1.127_089_3);
    let q = I::mul_add(t, q, -3.415_125_8e-4);
    let far = 1.0 - exp::<I>(q);
    if t < 1.0 { near } else { far.copysign(x) }
}

vectorised! {
    /// `cos(dt * freq + phase)`, product and sum each rounded as PyTorch does. In `-1..=1` for every finite argument.
    pub fn cos_row<I>(out: &mut [f32], dt: f32, freq: &[f32], phase: &[f32]) {
        let mut wide = false;
        for ((out, &freq), &phase) in out.iter_mut().zip(freq).zip(phase) {
            let x = dt * freq + phase;
            wide |= x.abs() >= WIDE;
            *out = cos::<I>(x);
        }
        if wide {
            wide_row(out, dt, freq, phase, f64::cos);
        }
    }
}

vectorised! {
    /// `sin(dt * freq + phase)`, rounded as [`cos_row`] does.
    pub fn sin_row<I>(out: &mut [f32], dt: f32, freq: &[f32], phase: &[f32]) {
        let mut wide = false;
        for ((out, &freq), &phase) in out.iter_mut().zip(freq).zip(phase) {
            let x = dt * freq + phase;
            wide |= x.abs() >= WIDE;
            *out = sin::<I>(x);
        }
        if wide {
            wide_row(out, dt, freq, phase, f64::sin);
        }
    }
}

vectorised! {
    /// `out += x`.
    pub fn add<I>(out: &mut [f32], x: &[f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out += x;
        }
    }
}

vectorised! {
    /// `out += a * x`.
    pub(crate) fn add_scaled<I>(out: &mut [f32], a: f32, x: &[f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = I::mul_add(a, x, *out);
        }
    }
}

vectorised! {
    /// Writes the sums of the columns of `rows`, which are `stride` apart.
    pub(crate) fn column_sums<I>(out: &mut [f32], rows: &[f32], stride: usize) {
        out.fill(0.0);
        for row in rows.chunks_exact(stride) {
            for (out, &x) in out.iter_mut().zip(row) {
                *out += x;
            }
        }
    }
}

vectorised! {
    /// `out += a * x + b * y`.
    pub(crate) fn add_two<I>(out: &mut [f32], a: f32, x: &[f32], b: f32, y: &[f32]) {
        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
            *out = I::mul_add(a, x, I::mul_add(b, y, *out));
        }
    }
}

vectorised! {
    /// Gradients of `cos(dt * freq + phase)` in `freq` and `phase`, given its sine and the gradient of its value.
    pub fn add_time_gradient<I>(freq: &mut [f32], phase: &mut [f32], dt: f32, sine: &[f32], grad: &[f32]) {
        for (((freq, phase), &sine), &grad) in freq.iter_mut().zip(phase).zip(sine).zip(grad) {
            let argument = -sine * grad;
            *freq = I::mul_add(dt, argument, *freq);
            *phase += argument;
        }
    }
}

vectorised! {
    /// Softmax in place.
    pub(crate) fn softmax<I>(scores: &mut [f32]) {
        let max = scores.iter().fold(f32::NEG_INFINITY, |max, &score| max.max(score));
        for score in scores.iter_mut() {
            *score = exp::<I>(*score - max);
        }
        let scale = 1.0 / scores.iter().sum::<f32>();
        for score in scores.iter_mut() {
            *score *= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vector::simd::{Fused, Separate};

    /// Floats of both signs, dense near 0 and reaching `limit`.
    fn arguments(limit: f32) -> impl Iterator<Item = f32> {
        let steps = 400_000;
        (0..=steps).flat_map(move |i| {
            let share = i as f32 / steps as f32;
            let x = limit * share.powi(6);
            [x, -x, limit * share]
        })
    }

    fn worst(
        limit: f32,
        ours: impl Fn(f32) -> f32,
        exact: impl Fn(f64) -> f64,
        error: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        arguments(limit).map(|x| error(f64::from(ours(x)), exact(f64::from(x)))).fold(0.0, f64::max)
    }

    fn absolute(ours: f64, exact: f64) -> f64 {
        (ours - exact).abs()
    }

    fn relative(ours: f64, exact: f64) -> f64 {
        if exact == 0.0 { ours.abs() } else { ((ours - exact) / exact).abs() }
    }

    fn errors<I: Isa>() -> [f64; 5] {
        [
            worst(1e8, cos::<I>, f64::cos, absolute),
            worst(1e8, sin::<I>, f64::sin, absolute),
            worst(87.0, exp::<I>, f64::exp, relative),
            worst(40.0, tanh::<I>, f64::tanh, relative),
            worst(87.0, sigmoid::<I>, |x| 1.0 / (1.0 + (-x).exp()), relative),
        ]
    }

    #[test]
    fn elementary_functions_are_as_exact_as_they_say() {
        for errors in [errors::<Fused>(), errors::<Separate>()] {
            println!(
                "cos {:.2e} sin {:.2e} exp {:.2e} tanh {:.2e} sigmoid {:.2e}",
                errors[0], errors[1], errors[2], errors[3], errors[4]
            );
            let ulp = f64::from(f32::EPSILON);
            let limits = [2e-7, 2e-7, 2.0 * ulp, 4.0 * ulp, 4.0 * ulp];
            assert!(errors.iter().zip(limits).all(|(&error, limit)| error < limit), "{errors:?}");
        }
    }

    /// By its series at 0, in double precision.
    fn exact_erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn the_error_function_is_as_exact_as_it_says() {
        for erf in [erf::<Fused>, erf::<Separate>] {
            let error = worst(4.5, erf, exact_erf, absolute);
            assert!(error < 2e-7, "{error:e}");
            assert_eq!([erf(20.0), erf(-1e30), erf(0.0)], [1.0, -1.0, 0.0]);
        }
    }

    #[test]
    fn not_a_number_stays_one() {
        for f in [cos::<Fused>, sin::<Fused>, exp::<Fused>, tanh::<Fused>, sigmoid::<Fused>, erf::<Fused>] {
            assert!(f(f32::NAN).is_nan());
        }
        assert!(rectify(f32::NAN).is_nan());
        assert_eq!([-2.0, -0.0, 0.0, 3.5, f32::INFINITY].map(rectify), [0.0, 0.0, 0.0, 3.5, f32::INFINITY]);
        let mut scores = [1.0, f32::NAN, -1.0];
        softmax(&mut scores);
        assert!(scores.iter().all(|score| score.is_nan()), "{scores:?}");
    }

    #[test]
    fn time_encodings_are_cosines_for_every_delta_of_an_i64() {
        let freq: Vec<f32> = (0..40).map(|i| 10f64.powf(3.0 - 0.5 * f64::from(i)) as f32).collect();
        let phase: Vec<f32> = (0..40).map(|i| i as f32 * 0.3 - 5.0).collect();
        let deltas = (0..63).flat_map(|power| [1i64 << power, (1 << power) + (1 << power) / 3, -(1 << power)]);
        let ends =
            [0, i64::MAX, i64::MIN, 10_000_000_000_000_000, 9_000_000_000_000_000_000, 1_700_000_000_000_000_000];
        let (mut cosine, mut sine) = (vec![0.0; 40], vec![0.0; 40]);
        for dt in deltas.chain(ends).map(|delta| delta as f32) {
            cos_row(&mut cosine, dt, &freq, &phase);
            sin_row(&mut sine, dt, &freq, &phase);
            for i in 0..40 {
                let x = f64::from(dt * freq[i] + phase[i]);
                assert!(cosine[i].abs() <= 1.0 && sine[i].abs() <= 1.0, "{x:e}: {} {}", cosine[i], sine[i]);
                if x.abs() <= 1e8 || x.abs() >= f64::from(WIDE) {
                    assert!((f64::from(cosine[i]) - x.cos()).abs() < 2e-7, "cos({x:e}) is not {}", cosine[i]);
                    assert!((f64::from(sine[i]) - x.sin()).abs() < 2e-7, "sin({x:e}) is not {}", sine[i]);
                }
            }
        }
        // beyond what a delta and a weight can be, to the last finite number
        for x in [f32::MAX, -f32::MAX, 1e25, 3.3e33] {
            cos_row(&mut cosine[..1], x, &[1.0], &[0.0]);
            assert!((f64::from(cosine[0]) - f64::from(x).cos()).abs() < 2e-7, "cos({x:e}) is not {}", cosine[0]);
        }
        cos_row(&mut cosine[..1], f32::MAX, &[10.0], &[0.0]);
        assert!(cosine[0].is_nan(), "an argument that overflows is no angle: {}", cosine[0]);
    }

    #[test]
    fn no_cosine_of_a_usual_argument_is_beyond_one() {
        for (cos, sin) in
            [(cos::<Fused> as fn(f32) -> f32, sin::<Fused> as fn(f32) -> f32), (cos::<Separate>, sin::<Separate>)]
        {
            for x in arguments(WIDE).chain((0..2_000_000).map(|i| i as f32 * 1e-5)) {
                assert!(cos(x).abs() <= 1.0 && sin(x).abs() <= 1.0, "{x:e}: {} {}", cos(x), sin(x));
            }
        }
    }
}
