//! How often two nodes have interacted, and when last.

use crate::{NodeId, PartitionedMap, Timestamp};

/// A pair of nodes, the number of their events in this direction, and the time of the last.
pub(crate) type PairEntry = ((NodeId, NodeId), (u32, Timestamp));

/// Placeholder for a pair without events: no query is after its time.
pub(crate) const NEVER: (u32, Timestamp) = (0, Timestamp(i64::MAX));

/// Count and last time of every settled (src, dst).
#[derive(Clone, Debug, Default)]
pub(crate) struct PairIndex {
    /// In the order of their first events, except where one was removed.
    met: Vec<PairEntry>,
    place: PartitionedMap<(NodeId, NodeId), u32>,
}

impl PairIndex {
    pub fn insert(&mut self, src: NodeId, dst: NodeId, time: Timestamp) {
        let next = self.met.len() as u32;
        let place = *self.place.get_or_insert((src, dst), next);
        if place == next {
            self.met.push(((src, dst), (0, time)));
        }
        let (_, (count, last)) = &mut self.met[place as usize];
        (*count, *last) = (*count + 1, time);
    }

    /// Retracts an event of the pair; `last` is the time of the newest that is still kept, if there is one.
    pub fn retract(&mut self, src: NodeId, dst: NodeId, last: Option<Timestamp>) {
        let Some(place) = self.place(src, dst) else { return };
        let (_, (count, known)) = &mut self.met[place];
        *count -= 1;
        *known = last.unwrap_or(*known);
        if *count == 0 {
            self.remove((src, dst));
        }
    }

    pub fn get(&self, src: NodeId, dst: NodeId) -> Option<(u32, Timestamp)> {
        self.place(src, dst).map(|place| self.met[place].1)
    }

    /// Swaps the facts of a pair with `fact`; does nothing for a pair without an entry.
    pub fn swap(&mut self, pair: (NodeId, NodeId), fact: &mut (u32, Timestamp)) {
        let next = self.met.len() as u32;
        let place = *self.place.get_or_insert(pair, next);
        if place == next {
            self.met.push((pair, NEVER));
        }
        std::mem::swap(&mut self.met[place as usize].1, fact);
    }

    /// Removes a pair; the last entry moves to its position.
    pub fn remove(&mut self, pair: (NodeId, NodeId)) {
        let Some(place) = self.place.remove(&pair) else { return };
        self.met.swap_remove(place as usize);
        if let Some((moved, _)) = self.met.get(place as usize) {
            self.place.insert(*moved, place);
        }
    }

    /// The position of a pair among [all](PairIndex::all).
    pub fn place(&self, src: NodeId, dst: NodeId) -> Option<usize> {
        self.place.get(&(src, dst)).map(|&place| place as usize)
    }

    pub fn clear(&mut self) {
        self.met.clear();
        self.place.clear();
    }

    /// Every pair that has events: what a snapshot stores.
    pub fn all(&self) -> &[PairEntry] {
        &self.met
    }

    /// # Errors
    /// A pair that is named twice.
    pub fn restore(&mut self, met: impl Iterator<Item = PairEntry>) -> Result<(), (NodeId, NodeId)> {
        self.met = met.collect();
        for (place, &(pair, _)) in self.met.iter().enumerate() {
            if self.place.insert(pair, place as u32).is_some() {
                return Err(pair);
            }
        }
        Ok(())
    }
}
