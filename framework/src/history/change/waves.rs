//! Which events may be observed together.

use crate::history::graph::receivers::NeighbourMail;
use crate::history::view::node_positions::NodePositions;
use crate::history::view::pending_index::{Moment, PendingIndex};
use crate::{Batch, Event, History, Lookup, NodeId};

/// Splits events into waves: consecutive events of which none reads what another writes. After
/// [`observe_wave`](History::observe_wave) the history is as if they had been observed one after the other, and their
/// updates can be computed at once.
///
/// An event writes the memory and the mail of its ends, the lists of their neighbours, and the mail of the neighbours
/// that get its own. It reads the memory and the mail of its ends. Where mail carries no memory of its sender, it also
/// reads that memory; and where the update [needs the ends as roots](crate::Needs::ends), all that a view of them
/// shows, hop by hop. Rows of [walks](crate::WalkRule) are written and read at the ends alone, and settle in the order
/// of the log, whatever the waves.
#[derive(Debug, Default)]
pub struct Waves {
    /// Nodes that the current wave writes.
    touched: Vec<NodeId>,
    places: NodePositions,
    receivers: NeighbourMail,
    present: PendingIndex,
}

impl Waves {
    /// The size of the first wave of `batch`, at most `most`: at least one, if there is any event.
    pub fn next(&mut self, history: &History, batch: &Batch<'_>, most: usize) -> usize {
        self.touched.clear();
        self.places.make_room(history.nodes());
        let most = batch.len().min(most.max(1));
        let wave = batch.first_events(most);
        // The receivers of an event that shares no node with the wave are the same as if the others had been observed.
        history.graph.receivers_into(&wave, &mut self.receivers);
        let hops = if history.needs().ends { history.needs().layers } else { 0 };
        if hops > 0 {
            self.present.refill(history.nodes(), || history.graph.pending.iter().copied());
        }
        let mut events = 0;
        while events < most {
            let event = wave.event(events);
            // The rest of a tick that has begun is updated from the state before the tick, later events are not.
            if events > 0 && history.memories.tick.time == Some(wave.time[0]) && event.time > wave.time[0] {
                break;
            }
            if events > 0 && self.conflicts(history, &event, hops) {
                break;
            }
            let to = self.receivers.of_event(events).iter().map(|sent| sent.to);
            for node in [event.src, event.dst].into_iter().chain(to) {
                self.places.note(node, self.touched.len());
                self.touched.push(node);
            }
            events += 1;
        }
        events
    }

    /// Whether an earlier event of the wave writes what `event` reads.
    fn conflicts(&self, history: &History, event: &Event, hops: usize) -> bool {
        let moment = match history.needs().lookup {
            Lookup::Ordered => Moment::Position(event.time, event.id),
            Lookup::Exact | Lookup::Batch => Moment::Time(event.time),
        };
        let window = history.needs().window_size();
        [event.src, event.dst].into_iter().any(|end| self.writes_behind(history, end, moment, hops, window))
    }

    /// Whether the wave writes anything that is shown of `node` over `hops` hops, or in a window of `window` events.
    fn writes_behind(&self, history: &History, node: NodeId, moment: Moment, hops: usize, window: usize) -> bool {
        let writes = |node| self.places.of(node, &self.touched).is_some();
        if writes(node) || history.memories.senders_read(node).any(writes) {
            return true;
        }
        if hops == 0 {
            return false;
        }
        // All events, if neighbours are shown and any event may be drawn or be the newest before an old event.
        let shown = match history.needs().neighbours {
            neighbours if neighbours == 0 || !history.needs().keeps_all() => neighbours,
            _ => usize::MAX,
        };
        let mut links = history.graph.newest_links(node, moment, &self.present).take(shown.max(window)).enumerate();
        links.any(|(i, link)| {
            let behind = if i < shown { hops - 1 } else { 0 };
            self.writes_behind(history, link.node, moment, behind, 0)
        })
    }
}
