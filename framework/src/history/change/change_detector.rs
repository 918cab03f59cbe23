//! Finds nodes whose surroundings have changed since a version.

use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::{EventId, History, Lookup, NodeId, Timestamp};

/// Separates nodes whose shown state is unchanged from nodes whose shown state has changed.
///
/// It reads a history of the newest neighbours. Mail of a neighbour's event counts as a change of its receiver.
#[derive(Debug, Default)]
pub struct ChangeDetector {
    /// Events of the newest tick, which are in no list yet.
    present: PendingIndex,
}

impl ChangeDetector {
    /// Prepares for the current state of a history.
    pub fn prepare(&mut self, history: &History) {
        self.present.refill(history.nodes(), || history.graph.pending.iter().copied());
    }

    /// Whether anything that is shown of `node` at `time` has changed after `version`: its memory, its neighbours, and
    /// theirs, over `hops` hops. Called on the history this was [prepared](Self::prepare) for, with nothing observed
    /// since.
    pub fn since(&self, history: &History, node: NodeId, time: Timestamp, hops: usize, version: u64) -> bool {
        let moment = match history.needs().lookup {
            Lookup::Ordered => Moment::Position(time, EventId(u64::MAX)),
            Lookup::Exact | Lookup::Batch => Moment::Time(time),
        };
        self.since_moment(history, node, moment, (hops, history.needs().window_size()), version)
    }

    /// The same over `hops`, and over the events of the window, which only roots have.
    fn since_moment(
        &self,
        history: &History,
        node: NodeId,
        moment: Moment,
        (hops, window): (usize, usize),
        version: u64,
    ) -> bool {
        if history.changed_after(node, version) {
            return true;
        }
        if hops == 0 {
            return false;
        }
        // A forgotten neighbour is a change too. The events before an older event are not the same as those before
        // now.
        let few = history.graph.valid_from.is_empty() && !history.needs().reads_past_neighbours();
        let shown = if few { history.needs().neighbours } else { usize::MAX };
        let mut links = history.graph.all_links(node, moment, &self.present).take(shown.max(window)).enumerate();
        links.any(|(i, link)| {
            let behind = if i < shown { hops - 1 } else { 0 };
            self.since_moment(history, link.node, moment, (behind, 0), version)
        })
    }

    /// The neighbours of `node` as a query at `time` is shown them, newest first.
    pub fn neighbours<'a>(
        &'a self,
        history: &'a History,
        node: NodeId,
        time: Timestamp,
    ) -> impl Iterator<Item = NodeId> + 'a {
        history
            .graph
            .newest_links(node, Moment::Time(time), &self.present)
            .take(history.needs().neighbours)
            .map(|link| link.node)
    }
}
