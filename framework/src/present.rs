//! The events that have not settled yet: those of the newest tick and, for exact lookups, of the batch in hand.

use crate::adjacency::Link;
use crate::{EventId, NodeId, Timestamp};

/// When a query is asked: what it may see is what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Moment {
    /// Events strictly before a time.
    Time(Timestamp),
    /// Events that stand before a place in the log; the time is that of the query.
    Place(Timestamp, EventId),
}

impl Moment {
    pub fn time(self) -> Timestamp {
        match self {
            Moment::Time(time) | Moment::Place(time, _) => time,
        }
    }

    /// Whether `link` came before. True of a beginning of any list in (time, event id) order.
    pub fn sees(self, link: &Link) -> bool {
        match self {
            Moment::Time(time) => link.time < time,
            Moment::Place(time, place) => link.time <= time && link.event < place,
        }
    }
}

/// Unsettled events grouped by node, each group in (time, event id) order.
///
/// A lookup takes the part of a node's group before its moment, then goes on to the settled past.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// Distinct nodes, ascending.
    nodes: Vec<NodeId>,
    /// `[nodes + 1]` offsets into `links`.
    starts: Vec<u32>,
    links: Vec<Link>,
}

impl Present {
    /// Groups events given as (one end, link to the other), in log order.
    pub fn group(ends: impl Iterator<Item = (NodeId, Link)>) -> Present {
        let mut ends: Vec<(NodeId, Link)> = ends.collect();
        ends.sort_by_key(|(node, link)| (*node, link.event));
        let mut present = Present { nodes: Vec::new(), starts: Vec::new(), links: Vec::with_capacity(ends.len()) };
        for (node, link) in ends {
            if present.nodes.last() != Some(&node) {
                present.nodes.push(node);
                present.starts.push(present.links.len() as u32);
            }
            present.links.push(link);
        }
        present.starts.push(present.links.len() as u32);
        present
    }

    /// The unsettled events of `node` that a query at `moment` may see, oldest first.
    pub fn before(&self, node: NodeId, moment: Moment) -> &[Link] {
        let Ok(group) = self.nodes.binary_search(&node) else { return &[] };
        let links = &self.links[self.starts[group] as usize..self.starts[group + 1] as usize];
        &links[..links.partition_point(|link| moment.sees(link))]
    }
}
