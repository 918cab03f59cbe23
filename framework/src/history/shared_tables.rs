//! A history whose tables several processes of a machine share: one of them writes each batch, the others apply it.

use std::sync::Arc;

use crate::history::graph::TableWriter;
use crate::storage::buffer::AnyBuffer;
use crate::storage::shared::SharedArena;
use crate::{Batch, History, ObserveError};

impl History {
    /// Bytes of shared memory that its tables take for `nodes` nodes.
    pub fn needed(&mut self, nodes: usize) -> usize {
        self.tables().iter().map(|(table, each)| table.needed(nodes * each)).sum()
    }

    /// Moves its tables into `room`, sized for `nodes` nodes. With `keep` it writes its own values there; otherwise it
    /// uses the values that `room` has. Whoever creates an arena and has nothing to keep [resets](History::reset) the
    /// history.
    ///
    /// From then on one of the processes observes each batch while no other reads. The others call
    /// [`expect_remote`](History::expect_remote) before it, and [`apply_remote`](History::apply_remote) afterwards,
    /// before the next batch is observed. To reset, one process calls [`reset`](History::reset), and the others
    /// [`reset_local`](History::reset_local).
    ///
    /// Facts about pairs, and lists that may have any length for a node (mail that is not just the last, all
    /// neighbours where no log is attached), are in no table: each process keeps its own. Where a log is attached, the
    /// events must be the log's.
    ///
    /// # Panics
    /// If the arena is too small, or the history is to keep another number of nodes.
    pub fn move_to_shared(&mut self, mut room: SharedArena, nodes: usize, keep: bool) {
        self.tables().into_iter().for_each(|(table, each)| table.move_into(&mut room, nodes * each, keep));
        self.grow(nodes);
        self.shared = true;
    }

    /// Prepares for a batch that another process is about to observe: finds the receivers of its mail and saves what its
    /// tick will change, which only the tables before the batch can give.
    ///
    /// # Errors
    /// The same as [`observe`](History::observe) returns in that process.
    pub fn expect_remote(&mut self, batch: &Batch<'_>) -> Result<(), ObserveError> {
        self.graph.check(batch)?;
        let receivers = self.graph.find_receivers(batch);
        self.graph.save_before_tick(batch, &receivers);
        self.memories_mut().save_before_tick(batch, &receivers);
        self.graph.receivers = receivers;
        Ok(())
    }

    /// Applies a batch that was announced with [`expect_remote`](History::expect_remote) and that another process has
    /// observed. `mail` is [`Update::mail`](crate::Update::mail); it may be empty unless
    /// [`needs_remote_mail`](History::needs_remote_mail).
    ///
    /// # Errors
    /// The same as [`observe`](History::observe) returned in that process.
    pub fn apply_remote(&mut self, batch: &Batch<'_>, mail: &[f32]) -> Result<(), ObserveError> {
        self.graph.check(batch)?;
        let receivers = std::mem::take(&mut self.graph.receivers);
        self.memories_mut().apply_remote(batch, mail, &receivers);
        self.graph.apply(batch, &receivers, 1, TableWriter::OtherProcess);
        self.graph.receivers = receivers;
        Ok(())
    }

    /// Whether [`apply_remote`](History::apply_remote) needs the mail of the update: where a model gives mail, and
    /// mail is in no table.
    pub fn needs_remote_mail(&self) -> bool {
        self.memories.needs_remote_mail()
    }

    /// Resets what is in no table, after another process has reset the tables.
    pub fn reset_local(&mut self) {
        self.graph.reset_local();
        self.memories_mut().reset_local();
    }

    /// All its tables, each with the entries a node has in it.
    pub(crate) fn tables(&mut self) -> Vec<(&mut dyn AnyBuffer, usize)> {
        let mut tables = Arc::make_mut(&mut self.memories).tables();
        tables.extend(self.graph.tables());
        tables
    }
}
