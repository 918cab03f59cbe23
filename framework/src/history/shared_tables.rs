//! A history that several processes of a machine have together: one of them writes what happens, the others find it written.

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

    /// Has its tables in `room` from here on, with places for `nodes` nodes: what stands there, or to `keep` what it holds. Whoever makes a
    /// room and has nothing to keep [resets](History::reset) it.
    ///
    /// From then on each batch is observed by one of the processes while no other reads; the others [expect](History::expect_remote) it before, and
    /// afterwards, before the next is observed, they [watch](History::apply_remote) it. In the same way one resets it, and the others
    /// [start over](History::reset_local).
    ///
    /// Facts about pairs, and lists of which a node may have any length (mail that is not just the last, all neighbours where no log is
    /// followed), are in no table: each process keeps its own. Where a log is followed, the events are to be the log's.
    ///
    /// # Panics
    /// If the room is too small, or the history is to keep another number of nodes.
    pub fn move_to_shared(&mut self, mut room: SharedArena, nodes: usize, keep: bool) {
        self.tables().into_iter().for_each(|(table, each)| table.move_into(&mut room, nodes * each, keep));
        self.grow(nodes);
        self.shared = true;
    }

    /// Finds out what only the tables of now tell about a batch that another process is about to observe: who gets its mail.
    ///
    /// # Errors
    /// As [`observe`](History::observe) will tell that process.
    pub fn expect_remote(&mut self, batch: &Batch<'_>) -> Result<(), ObserveError> {
        self.graph.check(batch)?;
        self.graph.receivers = self.graph.find_receivers(batch);
        Ok(())
    }

    /// Takes note of a batch that it was told to [expect](History::expect_remote) and another process has observed. `mail` is
    /// [`Update::mail`](crate::Update::mail); it may be empty but where this [has to know it](History::needs_remote_mail).
    ///
    /// # Errors
    /// As [`observe`](History::observe) told that process.
    pub fn apply_remote(&mut self, batch: &Batch<'_>, mail: &[f32]) -> Result<(), ObserveError> {
        self.graph.check(batch)?;
        let receivers = std::mem::take(&mut self.graph.receivers);
        self.memories_mut().apply_remote(batch, mail, &receivers);
        self.graph.apply(batch, &receivers, 1, TableWriter::OtherProcess);
        self.graph.receivers = receivers;
        Ok(())
    }

    /// Whether who [watches](History::apply_remote) has to know what the update said in mail: where a model gives that, and mail is in no table.
    pub fn needs_remote_mail(&self) -> bool {
        self.memories.needs_remote_mail()
    }

    /// Takes note that another process has reset it.
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
