//! Whose surroundings an event has reached.

use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::{EventId, History, Lookup, NodeId, Timestamp};

/// Tells nodes that a model is shown the same of as before from those it is not.
///
/// It knows a history of the newest neighbours. Mail that a node got of a neighbour's event has reached it, too.
#[derive(Debug, Default)]
pub struct ChangeDetector {
    /// Events of the newest tick, which stand in no list yet.
    present: PendingIndex,
}

impl ChangeDetector {
    /// Makes ready for a history as it stands.
    pub fn prepare(&mut self, history: &History) {
        self.present.refill(history.nodes(), || history.graph.pending.iter().copied());
    }

    /// Whether anything that is shown of `node` at `time` — its memory, its neighbours, theirs, over as many `hops` — has changed after
    /// `version`. Called on the history this was [prepared](Self::prepare) for, with nothing observed since.
    pub fn since(&self, history: &History, node: NodeId, time: Timestamp, hops: usize, version: u64) -> bool {
        let moment = match history.needs().lookup {
            Lookup::Ordered => Moment::Position(time, EventId(u64::MAX)),
            Lookup::Exact | Lookup::Batch => Moment::Time(time),
        };
        self.since_moment(history, node, moment, (hops, history.needs().window_size()), version)
    }

    /// The same over `hops`, and over as many events at the second look, which is the roots' alone.
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
        // That a neighbour was forgotten is a change too.
        // Before an older event stand others than before now.
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
