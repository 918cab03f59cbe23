//! Dropout by the hash of [`Dropout`](crate::Dropout), in numbers of 32 bits: not every device has wider ones.
use cubecl::prelude::*;

/// A number of 64 bits.
#[derive(CubeType, Clone, Copy)]
struct Wide {
    high: u32,
    low: u32,
}

/// `a * b` to 64 bits.
#[cube]
fn times(a: Wide, high: u32, low: u32) -> Wide {
    let a_high = a.low >> 16;
    let a_low = a.low & 0xffff;
    let b_high = low >> 16;
    let b_low = low & 0xffff;
    let first = a_high * b_low + ((a_low * b_low) >> 16);
    let second = a_low * b_high + (first & 0xffff);
    let carried = a_high * b_high + (first >> 16) + (second >> 16);
    Wide { high: carried + a.high * low + a.low * high, low: a.low * low }
}

/// `a ^ (a >> by)`, `by` below 32.
#[cube]
fn folded(a: Wide, #[comptime] by: u32) -> Wide {
    Wide { high: a.high ^ (a.high >> by), low: a.low ^ ((a.low >> by) | (a.high << (32 - by))) }
}

/// The output function of the generator SplitMix64.
#[cube]
fn mix(a: Wide) -> Wide {
    let a = times(folded(a, 30u32), 0xbf58_476du32, 0x1ce4_e5b9u32);
    let a = times(folded(a, 27u32), 0x94d0_49bbu32, 0x1331_11ebu32);
    folded(a, 31u32)
}

/// What dropout is on the device.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Mask {
    rate: f32,
    high: u32,
    low: u32,
}

/// What the entry numbered `counter` is multiplied by: 0, or `1 / (1 - rate)`.
#[cube]
pub(super) fn factor(mask: &Mask, counter: u32) -> f32 {
    let step = times(Wide { high: 0u32, low: counter }, 0x9e37_79b9u32, 0x7f4a_7c15u32);
    let low = step.low + mask.low;
    let carry = select(low < step.low, 1u32, 0u32);
    let hash = mix(Wide { high: step.high + mask.high + carry, low });
    // 2^-24
    let uniform = f32::cast_from(hash.high >> 8) * 5.960_464_5e-8f32;
    select(uniform < mask.rate, 0.0f32, 1.0f32 / (1.0f32 - mask.rate))
}
