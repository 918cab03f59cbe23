//! A map that grows one part at a time.

use std::hash::{BuildHasher, Hash};

use rustc_hash::{FxBuildHasher, FxHashMap};

/// Parts of a map.
const PARTS: usize = 256;

/// A hash map in parts, so that inserting a new key never moves more than one part.
///
/// The last parts have twice as many keys as the first, with all sizes between, so that they do not all reach their
/// capacity and move at the same insert.
#[derive(Clone, Debug)]
pub struct PartitionedMap<K, V> {
    parts: Vec<FxHashMap<K, V>>,
}

impl<K, V> Default for PartitionedMap<K, V> {
    fn default() -> Self {
        PartitionedMap { parts: (0..PARTS).map(|_| FxHashMap::default()).collect() }
    }
}

impl<K: Hash + Eq, V> PartitionedMap<K, V> {
    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.parts[part(key)].get(key)
    }

    /// The value of `key`; inserts `value` if there is none.
    pub fn get_or_insert(&mut self, key: K, value: V) -> &mut V {
        self.parts[part(&key)].entry(key).or_insert(value)
    }

    /// Sets the value of `key` and returns the old one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.parts[part(&key)].insert(key, value)
    }

    /// Removes the value of `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.parts[part(key)].remove(key)
    }

    /// Removes everything; the allocated memory stays.
    pub fn clear(&mut self) {
        self.parts.iter_mut().for_each(FxHashMap::clear);
    }
}

/// The part of a key.
fn part(key: &impl Hash) -> usize {
    let hash = FxBuildHasher.hash_one(key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let share = (hash >> 32) as f32 / (1u64 << 32) as f32;
    // Close to log₂(1 + share): as many hashes go to the last part as to two of the first.
    (PARTS as f32 * share * (4.0 - share) / 3.0) as usize % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draw, Purpose};

    #[test]
    fn the_parts_outgrow_their_room_one_after_the_other() {
        let room = |map: &PartitionedMap<u64, u64>| map.parts.iter().map(FxHashMap::capacity).collect::<Vec<_>>();
        let mut map = PartitionedMap::default();
        let (mut before, mut most, mut moved) = (room(&map), 0, std::collections::BTreeSet::new());
        for wave in 0..4000 {
            for key in 64 * wave..64 * (wave + 1) {
                map.insert(key, key);
            }
            let now = room(&map);
            // Small parts move in no time.
            let grown: Vec<usize> = (0..PARTS).filter(|&part| now[part] > before[part] && now[part] > 400).collect();
            most = most.max(grown.len());
            moved.extend(grown);
            before = now;
        }
        assert_eq!(moved.len(), PARTS);
        assert!(most <= 3, "{most} moved in one wave of 64 keys");
    }

    #[test]
    fn it_holds_what_a_map_holds() {
        let mut numbers = Draw::new(3).of(Purpose::Sampling).at(0, 0);
        let (mut map, mut known) = (PartitionedMap::default(), FxHashMap::default());
        for step in 0..5000u32 {
            let key = (numbers.below(32), numbers.below(32));
            match numbers.below(4) {
                0 => assert_eq!(map.remove(&key), known.remove(&key)),
                1 => assert_eq!(*map.get_or_insert(key, step), *known.entry(key).or_insert(step)),
                2 => assert_eq!(map.insert(key, step), known.insert(key, step)),
                _ => assert_eq!(map.get(&key), known.get(&key)),
            }
        }
        map.clear();
        assert!(known.keys().all(|key| map.get(key).is_none()));
    }
}
