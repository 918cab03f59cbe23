//! What a history has seen, as one hash.

use std::fmt;
use std::io::Write;

use sha2::{Digest, Sha256};
use tempograph_framework::Dataset;

/// A hash over ids and times of events, in order: histories with one hash have seen the same events. Each event is hashed
/// together with the hash before it, so that it goes on from any event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PastHash([u8; 16]);

impl PastHash {
    /// Of the first `seen` events of a dataset.
    pub fn of_dataset(set: &Dataset, seen: usize) -> PastHash {
        let mut past = PastHash::default();
        let (src, dst, time) = (set.log.src(), set.log.dst(), set.log.time());
        for event in 0..seen.min(set.log.len()) {
            past.push(set.ids.name(src[event]), set.ids.name(dst[event]), time[event].0);
        }
        past
    }

    /// Goes on to the next event: the user's own ids, and the time in ticks.
    pub fn push(&mut self, src: impl fmt::Display, dst: impl fmt::Display, time: i64) {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        // Writing to a hash cannot fail.
        let _ = write!(hasher, "{src}\0{dst}\0");
        hasher.update(time.to_le_bytes());
        self.0.copy_from_slice(&hasher.finalize()[..16]);
    }

    /// Reads what it prints.
    pub fn parse(text: &str) -> Option<PastHash> {
        let digits = Some(text).filter(|text| text.len() == 32 && text.is_ascii())?;
        u128::from_str_radix(digits, 16).ok().map(|hash| PastHash(hash.to_be_bytes()))
    }
}

impl fmt::Display for PastHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_past_has_another_hash_and_a_hash_reads_back() {
        let of = |events: &[(&str, &str, i64)]| {
            let mut past = PastHash::default();
            events.iter().for_each(|&(src, dst, time)| past.push(src, dst, time));
            past
        };
        let one = of(&[("1", "2", 3), ("4", "5", 6)]);
        assert_eq!(one, of(&[("1", "2", 3), ("4", "5", 6)]));
        for other in [
            &[("4", "5", 6), ("1", "2", 3)][..],
            &[("1", "2", 3)],
            &[("1", "2", 3), ("4", "5", 7)],
            &[("12", "", 3), ("4", "5", 6)],
        ] {
            assert_ne!(one, of(other));
        }
        assert_eq!(PastHash::parse(&one.to_string()), Some(one));
        assert_eq!((PastHash::parse(""), PastHash::parse(&"g".repeat(32))), (None, None));
    }
}
