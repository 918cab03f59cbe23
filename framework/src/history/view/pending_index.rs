//! The events that have not settled yet: those of the newest tick and, for exact lookups, of the batch in hand.

use std::ops::Range;

use crate::history::view::node_positions::NodePositions;
use crate::log::link::Link;
use crate::{Event, EventId, NodeId, Timestamp};

/// When a query is asked: what it may see is what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Moment {
    /// Events strictly before a time.
    Time(Timestamp),
    /// Events that stand before a place in the log; the time is that of the query.
    Position(Timestamp, EventId),
}

impl Moment {
    pub fn time(self) -> Timestamp {
        match self {
            Moment::Time(time) | Moment::Position(time, _) => time,
        }
    }

    /// Whether `link` came before. True of a beginning of any list in (time, event id) order.
    pub fn sees(self, link: &Link) -> bool {
        match self {
            Moment::Time(time) => link.time < time,
            Moment::Position(time, place) => link.time <= time && link.event < place,
        }
    }
}

/// Ends of unsettled events there is room for from the start: a server that is told events one by one asks for more only where a tick, with
/// the batch in hand, has more.
pub(crate) const ENDS: usize = 128;

/// Unsettled events grouped by node, each group in (time, event id) order.
///
/// A lookup takes the part of a node's group before its moment, then goes on to the settled past.
#[derive(Debug, Default)]
pub(crate) struct PendingIndex {
    /// Distinct nodes, as they came.
    nodes: Vec<NodeId>,
    places: NodePositions,
    /// `[nodes]` where each group ends in `links`: there the next begins.
    ends: Vec<u32>,
    links: Vec<Link>,
}

impl PendingIndex {
    /// Groups `events`, given in log order, over what was held before.
    pub fn refill<E: Iterator<Item = Event>>(&mut self, nodes: usize, events: impl Fn() -> E) {
        let ends = || events().flat_map(|event| Link::ends(event.id, event.src, event.dst, event.time));
        self.places.make_room(nodes);
        self.nodes.clear();
        self.nodes.reserve(ENDS);
        self.ends.clear();
        self.ends.reserve(ENDS);
        self.links.reserve(ENDS.saturating_sub(self.links.len()));
        for (node, _) in ends() {
            let group = self.group(node).unwrap_or_else(|| self.new_group(node));
            self.ends[group] += 1;
        }
        let mut total = 0;
        for count in &mut self.ends {
            total += std::mem::replace(count, total);
        }
        // What is now each group's beginning runs to its end as the group fills.
        self.links.resize(total as usize, Link::default());
        for (node, link) in ends() {
            if let Some(group) = self.group(node) {
                self.links[self.ends[group] as usize] = link;
                self.ends[group] += 1;
            }
        }
    }

    /// The unsettled events of `node` that a query at `moment` may see, oldest first.
    pub fn before(&self, node: NodeId, moment: Moment) -> &[Link] {
        &self.links[self.places_before(node, moment)]
    }

    /// Where those stand among all [links](PendingIndex::links).
    pub fn places_before(&self, node: NodeId, moment: Moment) -> Range<usize> {
        let Some(group) = self.group(node) else { return 0..0 };
        let start = group.checked_sub(1).map_or(0, |before| self.ends[before]) as usize;
        let links = &self.links[start..self.ends[group] as usize];
        start..start + links.partition_point(|link| moment.sees(link))
    }

    /// All unsettled events, as their ends see them: group by group.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    fn group(&self, node: NodeId) -> Option<usize> {
        self.places.of(node, &self.nodes)
    }

    fn new_group(&mut self, node: NodeId) -> usize {
        self.places.note(node, self.nodes.len());
        self.nodes.push(node);
        self.ends.push(0);
        self.nodes.len() - 1
    }
}
