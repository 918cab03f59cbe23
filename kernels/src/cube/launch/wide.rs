//! Numbers of 64 bits: not every device has such.
use cubecl::prelude::*;

/// A number of 64 bits.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct WideU64 {
    pub(crate) high: u32,
    pub(crate) low: u32,
}

/// `a * b` to 64 bits.
#[cube]
pub(crate) fn wide_mul(a: WideU64, high: u32, low: u32) -> WideU64 {
    let a_high = a.low >> 16;
    let a_low = a.low & 0xffff;
    let b_high = low >> 16;
    let b_low = low & 0xffff;
    let first = a_high * b_low + ((a_low * b_low) >> 16);
    let second = a_low * b_high + (first & 0xffff);
    let carried = a_high * b_high + (first >> 16) + (second >> 16);
    WideU64 { high: carried + a.high * low + a.low * high, low: a.low * low }
}
