//! The share of events that memories capture at a batch size: the knee beyond which batches should not grow.

use crate::{Batch, NodeId};

/// The share of events that node memories capture when a log is observed in batches of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Captured {
    /// Events of a batch.
    pub batch: usize,
    /// Of all ends of events, the share after which the node's memory was updated. A node updates its memory once a
    /// batch, from its last mail, so all but one of its events in a batch are not captured. In `0..=1`; 1 for no
    /// events.
    pub share: f64,
}

/// Events between two reports of progress.
const STRIDE: usize = 1 << 20;

/// The captured share of `events` for each batch size of `sizes`, in their order; batches are counted from the first
/// event. One pass for all sizes, without training. Mail to [neighbours](crate::Receivers::Neighbours) of the ends is
/// not counted: it writes no memory. `progress` is called from time to time with the number of events done.
///
/// Differs: DistTGL (SC 2023) counts captured events; a share of all of them can be compared between data sets.
///
/// # Panics
/// On a batch size of 0.
pub fn captured_shares(events: &Batch<'_>, sizes: &[usize], progress: &mut dyn FnMut(usize)) -> Vec<Captured> {
    let nodes = events.src.iter().chain(events.dst).map(|node| node.index() + 1).max().unwrap_or(0);
    // The last position of each node, counted from 1; 0 if there is none.
    let mut last = vec![0usize; nodes];
    let mut updates = vec![0u64; sizes.len()];
    let mut ends = 0u64;
    for (place, (&src, &dst)) in events.src.iter().zip(events.dst).enumerate() {
        for node in both(src, dst) {
            ends += 1;
            let before = std::mem::replace(&mut last[node.index()], place + 1).checked_sub(1);
            for (count, &size) in updates.iter_mut().zip(sizes) {
                *count += u64::from(before.is_none_or(|before| before / size != place / size));
            }
        }
        if place % STRIDE == 0 {
            progress(place);
        }
    }
    let share = |updates: u64| if ends == 0 { 1.0 } else { updates as f64 / ends as f64 };
    sizes.iter().zip(updates).map(|(&batch, updates)| Captured { batch, share: share(updates) }).collect()
}

/// The ends of an event; one of a self-loop.
fn both(src: NodeId, dst: NodeId) -> impl Iterator<Item = NodeId> {
    std::iter::once(src).chain((src != dst).then_some(dst))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{EventId, Timestamp};

    /// The definition: distinct nodes of each batch over all ends.
    fn by_batches(pairs: &[(u32, u32)], size: usize) -> f64 {
        let ends = |pairs: &[(u32, u32)]| -> Vec<u32> {
            pairs.iter().flat_map(|&(src, dst)| if src == dst { vec![src] } else { vec![src, dst] }).collect()
        };
        let distinct: usize =
            pairs.chunks(size).map(|batch| ends(batch).into_iter().collect::<BTreeSet<_>>().len()).sum();
        distinct as f64 / ends(pairs).len() as f64
    }

    fn of(pairs: &[(u32, u32)], sizes: &[usize]) -> Vec<Captured> {
        let (src, dst): (Vec<NodeId>, Vec<NodeId>) = pairs.iter().map(|&(src, dst)| (NodeId(src), NodeId(dst))).unzip();
        let (time, label) = (vec![Timestamp(0); src.len()], vec![0.0; src.len()]);
        captured_shares(
            &Batch { first: EventId(0), src: &src, dst: &dst, time: &time, label: &label },
            sizes,
            &mut |_| (),
        )
    }

    proptest! {
        #[test]
        fn each_size_captures_the_distinct_nodes_of_its_batches(pairs in prop::collection::vec((0u32..9, 0u32..9), 1..80)) {
            let sizes = [1, 2, 3, 7, 16, 100];
            for Captured { batch, share } in of(&pairs, &sizes) {
                prop_assert!((share - by_batches(&pairs, batch)).abs() < 1e-12, "batch {batch}: {share}");
            }
        }
    }

    #[test]
    fn single_events_are_all_captured() {
        assert_eq!(of(&[(0, 1), (0, 1), (2, 2)], &[1]), [Captured { batch: 1, share: 1.0 }]);
        assert_eq!(of(&[], &[5]), [Captured { batch: 5, share: 1.0 }]);
    }
}
