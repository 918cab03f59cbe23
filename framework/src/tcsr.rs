//! A log by node: the temporal CSR of Zhou et al., "TGL: A General Framework for Temporal GNN Training on Billion-Scale Graphs", 2022
//! (arXiv:2203.14883).

use rayon::prelude::*;

use crate::adjacency::Link;
use crate::{EventId, EventLog, NodeId};

/// The events of every node of a log, in (time, event id) order, one node after the other.
#[derive(Debug, PartialEq)]
pub(crate) struct TemporalCsr {
    /// `[N + 1]` offsets into `links`.
    starts: Vec<usize>,
    links: Vec<Link>,
}

impl TemporalCsr {
    /// Of all events of `log`.
    ///
    /// Each task reads the whole log and writes the events of its own nodes, so the result is the same for any number of them.
    pub fn of(log: &EventLog) -> TemporalCsr {
        let nodes = [log.src(), log.dst()].map(|ends| ends.par_iter().max().map_or(0, |node| node.index() + 1));
        let nodes = nodes[0].max(nodes[1]);
        let starts = starts(log, nodes);
        let mut links = vec![Link::default(); starts[nodes]];
        parts(&starts, &mut links, rayon::current_num_threads()).into_par_iter().for_each(|part| part.fill(log, &starts));
        TemporalCsr { starts, links }
    }

    /// The events of `node`, oldest first; none of a node the log does not name.
    pub fn of_node(&self, node: NodeId) -> &[Link] {
        match self.starts.get(node.index()..node.index() + 2) {
            Some(&[start, end]) => &self.links[start..end],
            _ => &[],
        }
    }
}

/// Where the events of each node begin: `[nodes + 1]`.
fn starts(log: &EventLog, nodes: usize) -> Vec<usize> {
    let mut starts = vec![0; nodes + 1];
    let count = nodes.div_ceil(rayon::current_num_threads()).max(1);
    starts[1..].par_chunks_mut(count).enumerate().for_each(|(part, degrees)| {
        for (node, _) in ends(log) {
            if let Some(degree) = node.index().checked_sub(part * count).and_then(|n| degrees.get_mut(n)) {
                *degree += 1;
            }
        }
    });
    let mut total = 0;
    for start in &mut starts {
        total += *start;
        *start = total;
    }
    starts
}

/// Every event of the log from each of its ends, in order.
fn ends(log: &EventLog) -> impl Iterator<Item = (NodeId, Link)> {
    let ids = (0..).map(EventId);
    let events = ids.zip(log.src()).zip(log.dst()).zip(log.time());
    events.flat_map(|(((id, &src), &dst), &time)| Link::ends(id, src, dst, time))
}

/// Consecutive nodes and the room for their events.
struct Part<'a> {
    first: usize,
    end: usize,
    links: &'a mut [Link],
}

/// At most `count` parts with about equally many events each.
fn parts<'a>(starts: &[usize], mut links: &'a mut [Link], count: usize) -> Vec<Part<'a>> {
    let (nodes, total) = (starts.len() - 1, links.len());
    let mut parts = Vec::with_capacity(count);
    let mut first = 0;
    for part in 1..=count {
        let end = starts.partition_point(|&start| start < total * part / count).clamp(first, nodes);
        let (own, rest) = links.split_at_mut(starts[end] - starts[first]);
        parts.push(Part { first, end, links: own });
        (first, links) = (end, rest);
    }
    parts
}

impl Part<'_> {
    fn fill(self, log: &EventLog, starts: &[usize]) {
        let mut next: Vec<usize> = starts[self.first..self.end].iter().map(|start| start - starts[self.first]).collect();
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
            prop_assert_eq!(built(3), one);
        }
    }
}
