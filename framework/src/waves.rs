//! Which events may happen together.

use crate::needs::OtherMemory;
use crate::places::Places;
use crate::{Batch, History, NodeId};

/// Cuts events that happen one by one into waves: events in a row of which none reads what another writes. Observed
/// [apart](History::observe_apart) they leave the history as they do one after the other, and what they write can be computed at once.
#[derive(Debug, Default)]
pub struct Waves {
    /// Nodes of the wave so far.
    touched: Vec<NodeId>,
    places: Places,
}

impl Waves {
    /// How many of the first events of `batch` make a wave of at most `most`: at least one, if there is any.
    pub fn next(&mut self, history: &History, batch: &Batch<'_>, most: usize) -> usize {
        self.touched.clear();
        self.places.make_room(history.nodes());
        let mut events = 0;
        while events < batch.len().min(most.max(1)) {
            let ends = [batch.src[events], batch.dst[events]];
            if ends.iter().any(|&node| self.conflicts(history, node)) {
                break;
            }
            for node in ends {
                self.places.note(node, self.touched.len());
                self.touched.push(node);
            }
            events += 1;
        }
        events
    }

    /// Whether an earlier event of the wave writes what an event of `node` reads: its memory and mail, and where a mail carries no memory
    /// of its sender, that too.
    fn conflicts(&self, history: &History, node: NodeId) -> bool {
        let writes = |node| self.places.of(node, &self.touched).is_some();
        let reads_other = history.needs().mail.other == OtherMemory::AtRead;
        writes(node) || (reads_other && history.memories.mailbox.waiting(node).iter().any(|mail| writes(mail.other)))
    }
}
