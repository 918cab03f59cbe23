//! Memories with their mail read, kept for whoever asks next.

use crate::needs::{Combine, OtherMemory};
use crate::{History, NodeId, Update};

/// What is kept beside a history so that mail is read once, however often it is looked at.
///
/// A row holds from the version it was computed at until something changes it was computed from.
#[derive(Clone, Debug)]
pub(crate) struct Ahead {
    width: usize,
    /// `[N, D]`.
    rows: Vec<f32>,
    /// `[N]` one more than the version each row is from; 0 where there is none.
    from: Vec<u64>,
    /// `[N]` the version that changed each node last; 0 for none.
    changed: Vec<u64>,
}

impl Ahead {
    fn new(nodes: usize, width: usize) -> Ahead {
        let mut ahead = Ahead { width, rows: Vec::new(), from: Vec::new(), changed: Vec::new() };
        ahead.grow(nodes);
        ahead
    }

    pub fn grow(&mut self, nodes: usize) {
        self.rows.resize(nodes * self.width, 0.0);
        self.from.resize(nodes, 0);
        self.changed.resize(nodes, 0);
    }

    pub fn clear(&mut self) {
        self.from.fill(0);
        self.changed.fill(0);
    }

    /// Notes that `version` has changed `node`.
    pub fn change(&mut self, node: NodeId, version: u64) {
        self.changed[node.index()] = version;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        4 * self.rows.len() + 16 * self.from.len()
    }
}

impl History {
    /// Keeps memories with their mail read, once they are [noted](History::note_ahead): views then show them as they are, with no mail left
    /// to read, until an event changes them. What is observed, stored and shown stays the same to the last bit. Does nothing for a
    /// model without memory, or one that reads a mean of mails.
    pub fn keep_ahead(&mut self) {
        if self.needs.memory > 0 && self.needs.mail.combine == Combine::Last {
            self.ahead = Some(Ahead::new(self.nodes(), self.needs.memory));
        }
    }

    /// Notes memories that were computed from a view of `version`, where nothing they were computed from has changed since.
    pub fn note_ahead(&mut self, update: &Update, version: u64) {
        let Some(mut ahead) = self.ahead.take() else { return };
        let rows = update.memory.chunks_exact(ahead.width);
        for (&node, row) in update.nodes.iter().zip(rows) {
            let n = node.index();
            if ahead.from[n] <= version && self.unchanged_since(&ahead, node, version + 1) {
                ahead.rows[n * ahead.width..][..ahead.width].copy_from_slice(row);
                ahead.from[n] = version + 1;
            }
        }
        self.ahead = Some(ahead);
    }

    /// Whether the memory of `node`, its mail read, or its neighbours may have changed after `version`.
    pub(crate) fn changed_after(&self, node: NodeId, version: u64) -> bool {
        self.ahead.as_ref().is_none_or(|ahead| !self.unchanged_since(ahead, node, version + 1))
    }

    /// The memory of `node` with its mail read, `[D]`, if it is kept.
    pub(crate) fn kept_ahead(&self, node: NodeId) -> Option<&[f32]> {
        let ahead = self.ahead.as_ref()?;
        let (n, width) = (node.index(), ahead.width);
        let holds = ahead.from[n] > 0 && self.unchanged_since(ahead, node, ahead.from[n]);
        holds.then(|| &ahead.rows[n * width..][..width])
    }

    /// Whether nothing that the new memory of `node` is made of has changed from the version before `from` on.
    fn unchanged_since(&self, ahead: &Ahead, node: NodeId, from: u64) -> bool {
        let reads_other = self.needs.mail.other == OtherMemory::AtRead;
        let still = |node: NodeId| ahead.changed[node.index()] < from;
        still(node) && (!reads_other || self.mailbox.waiting(node).iter().all(|mail| still(mail.other)))
    }
}
