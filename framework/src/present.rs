//! The events that have not settled yet: those of the newest tick and, for exact lookups, of the batch in hand.

use crate::adjacency::Link;
use crate::{NodeId, Timestamp};

/// Unsettled events grouped by node, each group in (time, event id) order.
///
/// A lookup strictly before `t` takes the part of a node's group before `t`, then goes on to the settled past.
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

    /// The unsettled events of `node` strictly before `time`, oldest first.
    pub fn before(&self, node: NodeId, time: Timestamp) -> &[Link] {
        let Ok(group) = self.nodes.binary_search(&node) else { return &[] };
        let links = &self.links[self.starts[group] as usize..self.starts[group + 1] as usize];
        &links[..links.partition_point(|link| link.time < time)]
    }
}
