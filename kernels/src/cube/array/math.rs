//! Elementary functions with the same result on every device. They do not use the device's own.
use cubecl::prelude::*;

/// `2^64 / (2 pi)`, its upper and its lower half.
const TURNS_HIGH: u32 = 0x28be_60db;
const TURNS_LOW: u32 = 0x9391_054a;

/// `x / (2 pi)` without its whole part, in units of `2^-32`: angles as integers, which wrap around as angles do.
///
/// The mantissa is multiplied by those 56 bits of `1 / (2 pi)` that matter at its exponent, in integers: no rounding
/// but of the last unit, no wide type and no fused product is needed. Right for `|x| < 2^32`.
#[cube]
fn turns(x: f32) -> u32 {
    let bits = u32::reinterpret(x);
    let exponent = (bits >> 23) & 0xff;
    let mantissa = (bits & 0x007f_ffff) | 0x0080_0000;

    // the constant, shifted to where the product's unit is 2^-56 turns
    let shift = 158u32 - u32::min(exponent, 158u32);
    let mut high = 0u32;
    let mut low = 0u32;
    if shift == 0 {
        high = TURNS_HIGH.runtime();
        low = TURNS_LOW.runtime();
    } else if shift < 32 {
        high = TURNS_HIGH.runtime() >> shift;
        low = (TURNS_LOW.runtime() >> shift) | (TURNS_HIGH.runtime() << (32 - shift));
    } else if shift < 64 {
        low = TURNS_HIGH.runtime() >> (shift - 32);
    }

    let upper = (high << 8) | (low >> 24);
    let lower = low & 0x00ff_ffff;
    // bits 24 and up of mantissa * lower, both of 24 bits, by halves of 12
    let mantissa_high = mantissa >> 12;
    let mantissa_low = mantissa & 0xfff;
    let lower_high = lower >> 12;
    let lower_low = lower & 0xfff;
    let middle = mantissa_high * lower_low + mantissa_low * lower_high + ((mantissa_low * lower_low) >> 12);
    let turns = mantissa * upper + mantissa_high * lower_high + (middle >> 12);
    select(bits >> 31 == 1, 0 - turns, turns)
}

/// The sine of an angle in units of `2^-32` turns.
#[cube]
fn sin_of_turns(turns: u32) -> f32 {
    // beyond a quarter turn sin(a) is sin(pi - a)
    let folded = select((turns ^ (turns << 1)) >> 31 == 1, 0x8000_0000u32 - turns, turns);
    // 2 pi / 2^32
    let r = f32::cast_from(i32::reinterpret(folded)) * 1.462_918e-9f32;
    let s = r * r;
    let p = s * -2.388_903_8e-8f32 + 2.752_584_8e-6f32;
    let p = s * p - 1.984_089e-4f32;
    let p = s * p + 8.333_331e-3f32;
    let p = s * p - 1.666_666_7e-1f32;
    r * s * p + r
}

/// `angle`, or a NaN if `x` is a NaN or infinite.
#[cube]
fn checked(angle: f32, x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    select((bits >> 23) & 0xff == 0xff, f32::reinterpret(bits | 0x0040_0000), angle)
}

/// `cos(x)`, within 2e-7 of the exact cosine for `|x| < 2^32`.
#[cube]
pub(crate) fn cos(x: f32) -> f32 {
    checked(sin_of_turns(turns(x) + 0x4000_0000), x)
}

/// `sin(x)`, within 2e-7 of the exact sine for `|x| < 2^32`.
#[cube]
pub(crate) fn sin(x: f32) -> f32 {
    checked(sin_of_turns(turns(x)), x)
}

/// `dt * freq[i] + phase[i]`, product and sum each rounded as PyTorch and the CPU do.
#[cube]
pub(crate) fn time_argument(dt: f32, freq: &Array<f32>, phase: &Array<f32>, i: usize) -> f32 {
    let product = dt * freq[i];
    // 0, but the compiler does not know it: it would fuse the product with the sum, and round a long time differently
    // than the CPU
    let nothing = (freq.len() as u32) >> 31;
    f32::reinterpret(u32::reinterpret(product) + nothing) + phase[i]
}

/// `max(x, 0)`; a NaN stays one, which a device's own maximum would take for the 0.
#[cube]
pub(crate) fn rectify(x: f32) -> f32 {
    select(x < 0.0f32, 0.0f32, x)
}

/// `1 / (1 + exp(-x))`.
#[cube]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}

/// `tanh(x)`: a device's own may be inexact near 0.
#[cube]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    if size < 0.625f32 {
        let s = x * x;
        let p = s * -5.664_791_6e-3f32 + 2.061_601_1e-2f32;
        let p = s * p - 5.373_863e-2f32;
        let p = s * p + 1.333_154_2e-1f32;
        let p = s * p - 3.333_329_3e-1f32;
        x * s * p + x
    } else {
        let far = 1.0f32 - 2.0f32 / ((size * 2.0f32).exp() + 1.0f32);
        select(x < 0.0f32, -far, far)
    }
}
