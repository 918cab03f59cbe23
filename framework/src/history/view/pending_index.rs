//! The pending events: those of the newest tick and, for exact lookups, of the current batch.

use std::ops::Range;

use crate::history::view::node_positions::NodePositions;
use crate::log::link::Link;
use crate::{Event, EventId, NodeId, Timestamp};

/// The moment of a query: it may see the events before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Moment {
    /// Events strictly before a time.
    Time(Timestamp),
    /// Events before a position in the log; the time is that of the query.
    Position(Timestamp, EventId),
}

impl Moment {
    pub fn time(self) -> Timestamp {
        match self {
            Moment::Time(time) | Moment::Position(time, _) => time,
        }
    }

    /// Whether `link` came before. In any list in (time, event id) order, the links that are seen form a prefix.
    pub fn sees(self, link: &Link) -> bool {
        match self {
            Moment::Time(time) => link.time < time,
            Moment::Position(time, place) => link.time <= time && link.event < place,
        }
    }
}

/// Ends of pending events to reserve from the start: a server that observes events one by one then allocates more only
/// where a tick, with the current batch, has more.
pub(crate) const ENDS: usize = 128;

/// Pending events grouped by node, each group in (time, event id) order.
///
/// A lookup reads the part of a node's group before its moment, then goes on to the settled past.
#[derive(Debug, Default)]
pub(crate) struct PendingIndex {
    /// Distinct nodes, in order of arrival.
    nodes: Vec<NodeId>,
    places: NodePositions,
    /// `[nodes]` the end of each group in `links`, which is the start of the next.
    ends: Vec<u32>,
    links: Vec<Link>,
    /// [`View::before`](crate::View::before) of the view that is filled.
    pub shown_before: Timestamp,
}

impl PendingIndex {
    /// Groups `events`, given in log order, and overwrites the old groups.
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
        // `ends` now holds each group's start; it moves to the group's end as the group fills.
        self.links.resize(total as usize, Link::default());
        for (node, link) in ends() {
            if let Some(group) = self.group(node) {
                self.links[self.ends[group] as usize] = link;
                self.ends[group] += 1;
            }
        }
    }

    /// The pending events of `node` that a query at `moment` may see, oldest first.
    pub fn before(&self, node: NodeId, moment: Moment) -> &[Link] {
        &self.links[self.places_before(node, moment)]
    }

    /// The positions of those among all [links](PendingIndex::links).
    pub fn places_before(&self, node: NodeId, moment: Moment) -> Range<usize> {
        let Some(group) = self.group(node) else { return 0..0 };
        let start = group.checked_sub(1).map_or(0, |before| self.ends[before]) as usize;
        let links = &self.links[start..self.ends[group] as usize];
        start..start + links.partition_point(|link| moment.sees(link))
    }

    /// All pending events, as seen from their ends: group by group.
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
