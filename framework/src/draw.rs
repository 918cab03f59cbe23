//! Chance as an argument: every random number is a pure function of where it is used.
//!
//! The generator is Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), a keyed
//! bijection of 128-bit counters. The key is the seed and the purpose; the counter is (epoch, index, block), so two
//! positions never share a number and any step can be replayed alone. Only integer arithmetic and correctly rounded `+
//! - * / sqrt` are used: the numbers are the same on every platform.

/// What a random number is for. Purposes do not share numbers, so drawing more for one never changes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Negatives of training batches.
    Negatives,
    /// Dropout masks.
    Dropout,
    /// Initial weights.
    Init,
    /// Neighbour sampling.
    Sampling,
    /// Negatives of validation and test.
    Evaluation,
    /// Built-in data generators.
    Generator,
    /// Random projections of walks.
    Walks,
}

impl Purpose {
    /// The number under which a purpose enters the key. Changing one changes every result drawn for it.
    fn number(self) -> u64 {
        match self {
            Purpose::Negatives => 1,
            Purpose::Dropout => 2,
            Purpose::Init => 3,
            Purpose::Sampling => 4,
            Purpose::Evaluation => 5,
            Purpose::Generator => 6,
            Purpose::Walks => 7,
        }
    }
}

/// The seed of a run, from which everything random follows.
///
/// ```
/// use tempograph_framework::{Draw, Purpose};
///
/// let negatives = Draw::new(7).of(Purpose::Negatives);
/// let mut event_812 = negatives.at(0, 812);
/// assert!(event_812.below(10) < 10);
/// assert_eq!(negatives.at(3, 5).next_u32(), negatives.at(3, 5).next_u32());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    seed: u64,
}

impl Draw {
    /// The root of all random numbers under `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The numbers for one purpose.
    pub fn of(self, purpose: Purpose) -> PurposeDraw {
        PurposeDraw { key: mix(self.seed ^ mix(purpose.number())) }
    }
}

/// The numbers for one purpose, before a position is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurposeDraw {
    key: u64,
}

impl PurposeDraw {
    /// The key that a generator elsewhere needs to draw the same numbers at the same positions.
    #[cfg(feature = "cube")]
    pub fn key(self) -> u64 {
        self.key
    }

    /// The generator at one position: usually an epoch and an event, or an epoch and a step.
    pub fn at(self, epoch: u32, index: u64) -> RandomNumbers {
        RandomNumbers { key: [low(self.key), high(self.key)], epoch, index, block: 0, words: [0; 4], left: 0 }
    }
}

/// A small generator that starts at one position and counts up from there.
#[derive(Clone, Debug)]
pub struct RandomNumbers {
    key: [u32; 2],
    epoch: u32,
    index: u64,
    block: u32,
    words: [u32; 4],
    left: usize,
}

impl RandomNumbers {
    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.left == 0 {
            self.words = philox([self.block, low(self.index), high(self.index), self.epoch], self.key);
            self.block = self.block.wrapping_add(1);
            self.left = self.words.len();
        }
        self.left -= 1;
        self.words[self.left]
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
    }

    /// A uniform integer from `0..n` (Lemire, "Fast Random Integer Generation in an Interval", 2019).
    ///
    /// # Panics
    /// If `n` is zero: there is nothing to draw from.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "a number below zero was asked for");
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        if low(product) < n {
            let surplus = n.wrapping_neg() % n;
            while low(product) < surplus {
                product = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        high(product)
    }

    /// A number in `[0, 1)` with 24 random bits.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from the normal distribution with mean 0 and variance 1 (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.uniform_f64() - 1.0, 2.0 * self.uniform_f64() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * ln(square) / square).sqrt();
            }
        }
    }

    /// Puts `items` into a random order, every order equally likely.
    ///
    /// # Panics
    /// If there are more than `u32::MAX` items.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        let count = u32::try_from(items.len()).expect("at most u32::MAX items can be shuffled");
        for last in (1..count).rev() {
            items.swap(last as usize, self.below(last + 1) as usize);
        }
    }
}

fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Ten rounds of Philox4x32 on one counter.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [high(second) ^ counter[1] ^ key[0], low(second), high(first) ^ counter[3] ^ key[1], low(first)];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// A bijection that scatters neighbouring seeds over the key space (the finaliser of SplitMix64).
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}

/// The natural logarithm of a positive normal number, implemented here because the platform's differs in the last bit
/// between platforms.
///
/// `ln(2^e * m) = e ln 2 + 2 artanh((m - 1) / (m + 1))` with `m` in `[1, 2)`, so the series' ratio is at most 1/9.
fn ln(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52) as i64 - 1023;
    let mantissa = f64::from_bits(x.to_bits() & ((1 << 52) - 1) | 1023 << 52);
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = (0..18).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * ratio * series
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of `counts` against equal shares.
    fn chi_square(counts: &[u64]) -> f64 {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum()
    }

    /// A chi-square variable has mean `k` and variance `2k`; six deviations are never seen by chance.
    fn assert_even(counts: &[u64], what: &str) {
        let freedom = (counts.len() - 1) as f64;
        let (statistic, slack) = (chi_square(counts), 6.0 * (2.0 * freedom).sqrt());
        assert!(
            (statistic - freedom).abs() < slack,
            "{what}: chi-square {statistic} with {freedom} degrees of freedom"
        );
    }

    #[test]
    fn philox_agrees_with_the_published_test_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn the_same_place_gives_the_same_numbers_and_every_other_place_gives_others() {
        let at = |seed, purpose, epoch, index| Draw::new(seed).of(purpose).at(epoch, index).next_u64();
        let here = at(1, Purpose::Negatives, 2, 3);
        assert_eq!(here, at(1, Purpose::Negatives, 2, 3));
        for other in [
            at(2, Purpose::Negatives, 2, 3),
            at(1, Purpose::Dropout, 2, 3),
            at(1, Purpose::Negatives, 3, 3),
            at(1, Purpose::Negatives, 2, 4),
            at(1, Purpose::Negatives, 3, 2),
            at(1, Purpose::Negatives, 2, 3 | 1 << 32),
        ] {
            assert_ne!(here, other);
        }
    }

    #[test]
    fn the_first_number_is_even_along_every_coordinate() {
        let first = |seed, purpose, epoch, index| Draw::new(seed).of(purpose).at(epoch, index).below(16) as usize;
        let (mut by_seed, mut by_epoch, mut by_index, mut pairs) = ([0u64; 16], [0u64; 16], [0u64; 16], [0u64; 256]);
        for i in 0..40_000u32 {
            by_seed[first(u64::from(i), Purpose::Init, 0, 0)] += 1;
            by_epoch[first(0, Purpose::Dropout, i, 9)] += 1;
            let here = first(0, Purpose::Negatives, 1, u64::from(i));
            by_index[here] += 1;
            // Numbers at the next position, and for another purpose at the same position, are independent of these.
            pairs[16 * here + first(0, Purpose::Evaluation, 1, u64::from(i) + 1)] += 1;
        }
        assert_even(&by_seed, "seeds");
        assert_even(&by_epoch, "epochs");
        assert_even(&by_index, "indices");
        assert_even(&pairs, "pairs of places");
    }

    #[test]
    fn below_is_even_where_taking_a_remainder_would_not_be() {
        let third = u32::MAX / 3 * 2;
        let mut numbers = Draw::new(4).of(Purpose::Sampling).at(0, 0);
        let mut counts = [0u64; 2];
        for _ in 0..40_000 {
            let drawn = numbers.below(third);
            assert!(drawn < third);
            counts[usize::from(drawn >= third / 2)] += 1;
        }
        assert_even(&counts, "halves");
        assert!((0..100).all(|_| numbers.below(1) == 0));
    }

    #[test]
    fn uniform_numbers_stay_in_the_unit_interval_and_fill_it_evenly() {
        let mut numbers = Draw::new(5).of(Purpose::Generator).at(0, 0);
        let (mut single, mut double) = ([0u64; 50], [0u64; 50]);
        for _ in 0..50_000 {
            let (x, y) = (numbers.uniform(), numbers.uniform_f64());
            assert!((0.0..1.0).contains(&x) && (0.0..1.0).contains(&y));
            single[(x * 50.0) as usize] += 1;
            double[(y * 50.0) as usize] += 1;
        }
        assert_even(&single, "f32");
        assert_even(&double, "f64");
    }

    #[test]
    fn normal_numbers_have_the_moments_and_tails_of_the_normal_distribution() {
        let mut numbers = Draw::new(6).of(Purpose::Init).at(0, 0);
        let n = 200_000;
        let (mut moments, mut beyond_two) = ([0.0f64; 4], 0);
        for _ in 0..n {
            let x = numbers.normal();
            for (power, moment) in (1..).zip(&mut moments) {
                *moment += x.powi(power) / f64::from(n);
            }
            beyond_two += i32::from(x.abs() > 2.0);
        }
        for (moment, (expected, slack)) in moments.iter().zip([(0.0, 0.015), (1.0, 0.02), (0.0, 0.06), (3.0, 0.15)]) {
            assert!((moment - expected).abs() < slack, "{moments:?}");
        }
        assert!((f64::from(beyond_two) / f64::from(n) - 0.0455).abs() < 0.003, "{beyond_two} of {n}");
    }

    #[test]
    fn the_portable_logarithm_agrees_with_the_platform() {
        let mut numbers = Draw::new(8).of(Purpose::Init).at(0, 0);
        for _ in 0..10_000 {
            let x = numbers.uniform_f64().powi(4) + f64::MIN_POSITIVE;
            assert!((ln(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(1.0), "{x}");
        }
    }

    #[test]
    fn shuffle_makes_every_order_equally_often() {
        let mut numbers = Draw::new(9).of(Purpose::Sampling).at(0, 0);
        let mut orders = std::collections::HashMap::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            numbers.shuffle(&mut items);
            *orders.entry(items).or_insert(0u64) += 1;
        }
        assert_eq!(orders.len(), 24);
        assert_even(&orders.into_values().collect::<Vec<_>>(), "orders");
        numbers.shuffle::<u8>(&mut []);
    }
}
