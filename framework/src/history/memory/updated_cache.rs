//! A cache of memories with their mail read.

use crate::storage::buffer::{AnyBuffer, Buffer};
use crate::{Memories, NodeId, Update};

/// Memories with their mail read, kept in addition to the stored memories so that mail is read once for several
/// queries.
///
/// A row is valid from the version it was computed at until something it was computed from is written.
#[derive(Clone, Debug)]
pub(crate) struct UpdatedMemoryCache {
    /// `[N, D]`.
    rows: Buffer<f32>,
    /// `[N]` one more than the version each row is from; 0 where there is none.
    from: Buffer<u64>,
}

impl UpdatedMemoryCache {
    pub fn grow(&mut self, nodes: usize, width: usize) {
        self.rows.resize(nodes * width, 0.0);
        self.from.resize(nodes, 0);
    }

    pub fn clear(&mut self) {
        self.from.fill(0);
    }

    /// Its tables, each with the number of entries for a node.
    pub fn tables(&mut self, width: usize) -> [(&mut dyn AnyBuffer, usize); 2] {
        [(&mut self.rows, width), (&mut self.from, 1)]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        4 * self.rows.len() + 8 * self.from.len()
    }
}

impl Memories {
    /// Caches memories with their mail read, once they are passed to `cache_updated`.
    pub(crate) fn enable_updated_cache(&mut self) {
        let mut ahead = UpdatedMemoryCache { rows: Buffer::default(), from: Buffer::default() };
        ahead.grow(self.nodes(), self.width);
        self.updated_cache = Some(ahead);
    }

    /// Caches memories that were computed from a view of `version`, except where an input of theirs was written since.
    pub(crate) fn cache_updated(&mut self, update: &Update, version: u64) {
        let Some(mut ahead) = self.updated_cache.take() else { return };
        for (&node, row) in update.nodes.iter().zip(update.memory.chunks_exact(self.width)) {
            let n = node.index();
            if ahead.from[n] <= version && self.unwritten_since(node, version) {
                ahead.rows[n * self.width..][..self.width].copy_from_slice(row);
                ahead.from[n] = version + 1;
            }
        }
        self.updated_cache = Some(ahead);
    }

    /// The cached memory of `node` with its mail read, `[D]`, if there is one that is not from a later version and none
    /// of its inputs was written since.
    pub(crate) fn cached_row(&self, node: NodeId) -> Option<&[f32]> {
        let ahead = self.updated_cache.as_ref()?;
        let n = node.index();
        let version = ahead.from[n].checked_sub(1)?;
        (version <= self.version && self.unwritten_since(node, version))
            .then(|| &ahead.rows[n * self.width..][..self.width])
    }

    /// Whether no input of the memory of `node`, with its mail read, has been written after `version`.
    pub(crate) fn unwritten_since(&self, node: NodeId, version: u64) -> bool {
        let still = |node: NodeId| self.written[node.index()] <= version;
        still(node) && self.senders_read(node).all(still)
    }
}
