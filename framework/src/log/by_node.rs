//! A log by node: the temporal CSR of Zhou et al., "TGL: A General Framework for Temporal GNN Training on
//! Billion-Scale Graphs", 2022 (arXiv:2203.14883).

use rayon::prelude::*;

use crate::log::link::Link;
use crate::storage::buffer::Buffer;
use crate::storage::shared::SharedArena;
use crate::{EventId, EventLog, NodeId};

/// The events of every node of a log, in (time, event id) order, one node after the other.
#[derive(Debug, PartialEq)]
pub(crate) struct TemporalCsr {
    /// `[N + 1]` offsets into `links`.
    starts: Buffer<u64>,
    links: Buffer<Link>,
}

impl TemporalCsr {
    /// Sorts all events of `log`.
    ///
    /// Each task reads the whole log and writes the events of its own nodes, so the result is the same for any number
    /// of tasks.
    pub fn of(log: &EventLog) -> TemporalCsr {
        let mut starts = vec![0; nodes(log) + 1];
        count(log, &mut starts);
        let mut links = vec![Link::default(); starts.last().map_or(0, |&end| end as usize)];
        fill(log, &starts, &mut links);
        TemporalCsr { starts: starts.into(), links: links.into() }
    }

    /// Bytes that the events of `log` take in a shared arena.
    pub fn needed(log: &EventLog) -> usize {
        SharedArena::needed::<u64>(nodes(log) + 1) + SharedArena::needed::<Link>(2 * log.len())
    }

    /// The events of `log` in a shared arena: they are sorted now or, with `sorted`, another process has sorted them
    /// before.
    pub fn in_room(log: &EventLog, room: &mut SharedArena, sorted: bool) -> TemporalCsr {
        let mut starts = Buffer::in_room(room, nodes(log) + 1);
        if !sorted {
            count(log, &mut starts);
        }
        let mut links = Buffer::in_room(room, starts.last().map_or(0, |&end| end as usize));
        if !sorted {
            fill(log, &starts, &mut links);
        }
        TemporalCsr { starts, links }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> usize {
        size_of::<u64>() * self.starts.len() + size_of::<Link>() * self.links.len()
    }

    /// The events of `node`, oldest first; empty for a node that is not in the log.
    pub fn of_node(&self, node: NodeId) -> &[Link] {
        match self.starts.get(node.index()..node.index() + 2) {
            Some(&[start, end]) => &self.links[start as usize..end as usize],
            _ => &[],
        }
    }
}

/// Nodes that a log may name: one more than the highest number.
fn nodes(log: &EventLog) -> usize {
    let nodes = [log.src(), log.dst()].map(|ends| ends.par_iter().max().map_or(0, |node| node.index() + 1));
    nodes[0].max(nodes[1])
}

/// Computes the start of each node's events: `[nodes + 1]`, zeros before.
fn count(log: &EventLog, starts: &mut [u64]) {
    let count = (starts.len() - 1).div_ceil(rayon::current_num_threads()).max(1);
    starts[1..].par_chunks_mut(count).enumerate().for_each(|(part, degrees)| {
        for (node, _) in ends(log) {
            if let Some(degree) = node.index().checked_sub(part * count).and_then(|n| degrees.get_mut(n)) {
                *degree += 1;
            }
        }
    });
    let mut total = 0;
    for start in starts {
        total += *start;
        *start = total;
    }
}

/// Writes the events of every node from its start on.
fn fill(log: &EventLog, starts: &[u64], links: &mut [Link]) {
    parts(starts, links, rayon::current_num_threads()).into_par_iter().for_each(|part| part.fill(log, starts));
}

/// Every event of the log from each of its ends, in order.
fn ends(log: &EventLog) -> impl Iterator<Item = (NodeId, Link)> {
    let ids = (0..).map(EventId);
    let events = ids.zip(log.src()).zip(log.dst()).zip(log.time());
    events.flat_map(|(((id, &src), &dst), &time)| Link::ends(id, src, dst, time))
}

/// Consecutive nodes and the slice for their events.
struct Part<'a> {
    first: usize,
    end: usize,
    links: &'a mut [Link],
}

/// At most `count` parts with about equally many events each.
fn parts<'a>(starts: &[u64], mut links: &'a mut [Link], count: usize) -> Vec<Part<'a>> {
    let (nodes, total) = (starts.len() - 1, links.len());
    let mut parts = Vec::with_capacity(count);
    let mut first = 0;
    for part in 1..=count {
        let end = starts.partition_point(|&start| (start as usize) < total * part / count).clamp(first, nodes);
        let (own, rest) = links.split_at_mut((starts[end] - starts[first]) as usize);
        parts.push(Part { first, end, links: own });
        (first, links) = (end, rest);
    }
    parts
}

impl Part<'_> {
    fn fill(self, log: &EventLog, starts: &[u64]) {
        let mut next: Vec<usize> =
            starts[self.first..self.end].iter().map(|start| (start - starts[self.first]) as usize).collect();
        for (node, link) in ends(log) {
            if let Some(next) = node.index().checked_sub(self.first).and_then(|n| next.get_mut(n)) {
                self.links[*next] = link;
                *next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_node_has_its_events_in_order_however_many_threads_sort_them(events in prop::collection::vec((0u32..9, 0u32..9, 0i64..2), 0..60)) {
            let mut now = 0;
            let time = events.iter().map(|&(_, _, gap)| { now += gap; Timestamp(now) }).collect();
            let [src, dst] = [0, 1].map(|end| events.iter().map(|&(src, dst, _)| NodeId([src, dst][end])).collect());
            let log = EventLog::new(src, dst, time, vec![0.0; events.len()], None).unwrap();
            let built = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| TemporalCsr::of(&log));
            let one = built(1);
            for node in (0..12).map(NodeId) {
                let expected: Vec<Link> = ends(&log).filter(|&(owner, _)| owner == node).map(|(_, link)| link).collect();
                prop_assert_eq!(one.of_node(node), expected);
            }
            prop_assert_eq!(&built(3), &one);
            if let Ok(shared) = crate::SharedMemory::zeros(TemporalCsr::needed(&log)) {
                for sorted in [false, true] {
                    // SAFETY: only this thread has it, and no borrow of the first is left when the second is made.
                    let kept = TemporalCsr::in_room(&log, &mut unsafe { shared.arena() }, sorted);
                    prop_assert_eq!(&kept, &one);
                }
            }
        }
    }
}
