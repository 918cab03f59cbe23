//! A history that several processes of a machine have together: one of them writes what happens, the others find it written.

use std::sync::Arc;

use crate::buffer::Table;
use crate::history::Hand;
use crate::shared::Room;
use crate::{Batch, History, ObserveError};

impl History {
    /// Bytes of shared memory that its tables take for `nodes` nodes.
    pub fn needed(&mut self, nodes: usize) -> usize {
        self.tables().iter().map(|(table, each)| table.needed(nodes * each)).sum()
    }

    /// Has its tables in `room` from here on, with places for `nodes` nodes: what stands there, or to `keep` what it holds. Whoever makes a
    /// room and has nothing to keep [resets](History::reset) it.
    ///
    /// From then on each batch is observed by one of the processes while no other reads; afterwards, and before the next is, the others
    /// [watch](History::watch) it. In the same way one resets it, and the others [start over](History::start_over).
    ///
    /// Facts about pairs, and lists of which a node may have any length (mail that is not just the last, all neighbours where no log is
    /// followed), are in no table: each process keeps its own. Where a log is followed, the events are to be the log's.
    ///
    /// # Panics
    /// If the room is too small, or the history is to keep another number of nodes.
    pub fn enter(&mut self, mut room: Room, nodes: usize, keep: bool) {
        self.tables().into_iter().for_each(|(table, each)| table.enter(&mut room, nodes * each, keep));
        self.grow(nodes);
        self.together = true;
    }

    /// Takes note of a batch that another process has observed.
    ///
    /// # Errors
    /// As [`observe`](History::observe) told that process.
    pub fn watch(&mut self, batch: &Batch<'_>) -> Result<(), ObserveError> {
        self.graph.check(batch)?;
        self.memories_mut().watch(batch);
        self.graph.enter(batch, 1, Hand::Watches);
        Ok(())
    }

    /// Takes note that another process has reset it.
    pub fn start_over(&mut self) {
        self.graph.start_over();
        self.memories_mut().start_over();
    }

    /// All its tables, each with the entries a node has in it.
    pub(crate) fn tables(&mut self) -> Vec<(&mut dyn Table, usize)> {
        let mut tables = Arc::make_mut(&mut self.memories).tables();
        tables.extend(self.graph.tables());
        tables
    }
}
