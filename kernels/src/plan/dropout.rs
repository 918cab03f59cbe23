//! Dropout decided by a hash of position: the same mask for any number of threads, forward and backward.

/// Inverted dropout whose mask is a function of a seed and a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Share of entries dropped, in `[0, 1)`.
    pub rate: f32,
    /// Seed of the mask: a fresh one for every step.
    pub seed: u64,
}

impl Dropout {
    /// The factor of entry number `counter`: 0, or `1 / (1 - rate)`.
    #[inline]
    pub fn factor(&self, counter: u64) -> f32 {
        factor(self.mixed_seed(), self.rate, counter)
    }

    /// The seed to which positions are added.
    #[inline]
    pub(crate) fn mixed_seed(&self) -> u64 {
        mix(self.seed)
    }
}

/// The factor of entry number `counter`, under a seed that is already [mixed](Dropout::mixed_seed).
#[inline(always)]
pub(crate) fn factor(mixed_seed: u64, rate: f32, counter: u64) -> f32 {
    let hash = mix(mixed_seed.wrapping_add(counter.wrapping_mul(GOLDEN)));
    // 24 bits, so that a signed conversion, which every vector unit has, is exact.
    let uniform = (hash >> 40) as i32 as f32 / (1u64 << 24) as f32;
    if uniform < rate { 0.0 } else { 1.0 / (1.0 - rate) }
}

/// 2^64 over the golden ratio: steps of it are spread evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of the generator SplitMix64.
#[inline(always)]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
