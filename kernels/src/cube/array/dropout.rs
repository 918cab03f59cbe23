//! Dropout by the hash of [`Dropout`](crate::Dropout), in integers of 32 bits: not every device has wider ones.
use crate::cube::launch::wide::{WideU64, wide_mul};
use cubecl::prelude::*;

/// `a ^ (a >> by)`, `by` below 32.
#[cube]
fn folded(a: WideU64, #[comptime] by: u32) -> WideU64 {
    WideU64 { high: a.high ^ (a.high >> by), low: a.low ^ ((a.low >> by) | (a.high << (32 - by))) }
}

/// The output function of the generator SplitMix64.
#[cube]
fn mix(a: WideU64) -> WideU64 {
    let a = wide_mul(folded(a, 30u32), 0xbf58_476du32, 0x1ce4_e5b9u32);
    let a = wide_mul(folded(a, 27u32), 0x94d0_49bbu32, 0x1331_11ebu32);
    folded(a, 31u32)
}

/// Dropout as the device computes it.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Mask {
    rate: f32,
    high: u32,
    low: u32,
}

/// The factor of entry number `counter`: 0, or `1 / (1 - rate)`.
#[cube]
pub(crate) fn factor(mask: &Mask, counter: u32) -> f32 {
    let step = wide_mul(WideU64 { high: 0u32, low: counter }, 0x9e37_79b9u32, 0x7f4a_7c15u32);
    let low = step.low + mask.low;
    let carry = select(low < step.low, 1u32, 0u32);
    let hash = mix(WideU64 { high: step.high + mask.high + carry, low });
    // 2^-24
    let uniform = f32::cast_from(hash.high >> 8) * 5.960_464_5e-8f32;
    select(uniform < mask.rate, 0.0f32, 1.0f32 / (1.0f32 - mask.rate))
}
