//! What a log of record remembers of the id of an event.

use serde_json::Number;
use xxhash_rust::xxh3::Xxh3;

use crate::request::NewEvent;

/// An id that a log has seen: the number of its event, and a hash of what the event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownId {
    /// Number of the event.
    pub seq: u64,
    /// Hash of its ends, time, label and features. Logs that were begun by an earlier version have none.
    pub hash: Option<u64>,
}

impl KnownId {
    /// Whether a hash is that of its event, as far as it is known.
    pub fn is_of(&self, hash: u64) -> bool {
        self.hash.is_none_or(|known| known == hash)
    }

    /// The number and the hash, little-endian.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [Some(self.seq), self.hash].into_iter().flatten().flat_map(u64::to_le_bytes).collect()
    }

    /// Reads the output of [`to_bytes`](KnownId::to_bytes); nothing for another number of bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<KnownId> {
        let (seq, rest) = bytes.split_first_chunk()?;
        let hash = match rest {
            [] => None,
            rest => Some(u64::from_le_bytes(rest.try_into().ok()?)),
        };
        Some(KnownId { seq: u64::from_le_bytes(*seq), hash })
    }
}

/// A hash of what an event says, with the time with which it was submitted. It does not depend on how a number was written.
pub(crate) fn event_hash(event: &NewEvent, submitted_time: &Number) -> u64 {
    let mut hash = Xxh3::new();
    for id in [&event.src, &event.dst] {
        let id = id.to_string();
        hash.update(&(id.len() as u64).to_le_bytes());
        hash.update(id.as_bytes());
    }
    let whole = |time: f64| (time.fract() == 0.0 && time.abs() < 2f64.powi(53)).then_some(time as i64);
    match (submitted_time.as_i64(), submitted_time.as_f64()) {
        (Some(time), _) => hash.update(&time.to_le_bytes()),
        (None, Some(time)) => match whole(time) {
            Some(time) => hash.update(&time.to_le_bytes()),
            None => hash.update(&time.to_bits().to_le_bytes()),
        },
        (None, None) => {}
    }
    hash.update(&event.label.to_bits().to_le_bytes());
    for value in event.features.iter().flatten() {
        hash.update(&value.to_bits().to_le_bytes());
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::KnownId;

    #[test]
    fn ids_of_logs_from_before_are_read_and_are_of_every_event() {
        let known = KnownId { seq: 7, hash: Some(9) };
        assert_eq!(KnownId::from_bytes(&known.to_bytes()), Some(known));
        assert!(known.is_of(9) && !known.is_of(8));
        let before = KnownId::from_bytes(&7u64.to_le_bytes()).unwrap();
        assert_eq!(before, KnownId { seq: 7, hash: None });
        assert!(before.is_of(8));
        assert_eq!(KnownId::from_bytes(&[0; 12]), None);
    }
}
