//! Long reads: copied in parts, all at the position at which the read began, while events continue.
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tempograph_framework::{Batch, NodeId, Timestamp, UndoLog};

use crate::artifact::names::Names;
use crate::engine::read::{DuringFeatures, copy_view};
use crate::engine::state::State;
use crate::engine::state::pass::Pass;
use crate::engine::{Engine, position, sampling};
use crate::request::id::ExternalId;
use crate::request::{Position, RequestError};

/// Old values for one long read: an undo log of the history and one of the names.
#[derive(Debug)]
pub(super) struct ReadSnapshot {
    number: u64,
    pub history: UndoLog,
    pub names: NamesUndoLog,
}

/// The destinations as they were when the read began.
#[derive(Debug)]
pub(super) struct NamesUndoLog {
    destinations: usize,
    /// The earlier destinations, by index, where the entry has changed since.
    moved: FxHashMap<usize, NodeId>,
    /// The users' ids of nodes that were expired since.
    own: FxHashMap<NodeId, ExternalId>,
}

impl NamesUndoLog {
    fn of(names: &Names) -> NamesUndoLog {
        NamesUndoLog {
            destinations: names.destinations().len(),
            moved: FxHashMap::default(),
            own: FxHashMap::default(),
        }
    }

    /// Saves old values before nodes are expired.
    pub fn before_forgetting(&mut self, names: &Names, nodes: &[NodeId]) {
        for place in names.destinations_moved_by_forgetting(nodes).filter(|&place| place < self.destinations) {
            self.moved.entry(place).or_insert_with(|| names.destinations()[place]);
        }
        for &node in nodes {
            self.own.entry(node).or_insert_with(|| names.own(node));
        }
    }

    fn part(&self, names: &Names, places: Range<usize>) -> Vec<(NodeId, ExternalId)> {
        let node = |place| self.moved.get(&place).copied().unwrap_or_else(|| names.destinations()[place]);
        let own = |node| self.own.get(&node).cloned().unwrap_or_else(|| names.own(node));
        places.map(node).map(|node| (node, own(node))).collect()
    }
}

/// A read in parts. Its undo log is kept until it is dropped.
///
/// A writer copies old values into the undo log before it overwrites them. A part without changes since the read began
/// is copied under the shared lock. For a part with changes, the old values are put back while the part is copied,
/// under the exclusive lock. No thread waits for longer than one part.
#[derive(Debug)]
pub(super) struct SnapshotRead<'a> {
    engine: &'a Engine,
    number: u64,
    /// The position at which it began.
    pub position: Position,
    /// Time of the newest event at that position.
    pub newest: Option<Timestamp>,
}

impl Engine {
    /// Begins a read in parts at the current position. The caller holds the lock of the state.
    pub(super) fn begin_snapshot_read(&self, state: &State) -> SnapshotRead<'_> {
        let mut snapshots = self.snapshots();
        let number = snapshots.last().map_or(0, |last| last.number + 1);
        snapshots.push(ReadSnapshot {
            number,
            history: state.history.begin_undo_log(),
            names: NamesUndoLog::of(&state.names),
        });
        SnapshotRead { engine: self, number, position: position(&state.history), newest: state.history.newest() }
    }

    /// Saves values for long reads before they are overwritten. The caller holds the exclusive lock of the state.
    pub(super) fn record_undo(&self, keep: impl FnMut(&mut ReadSnapshot)) {
        self.snapshots().iter_mut().for_each(keep);
    }

    /// Whether reads in parts are under way.
    pub(super) fn has_long_reads(&self) -> bool {
        !self.snapshots().is_empty()
    }

    fn snapshots(&self) -> MutexGuard<'_, Vec<ReadSnapshot>> {
        // If a thread panicked while it held this lock, the state's lock is poisoned as well, and no more reads are
        // answered.
        self.read_snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotRead<'_> {
    /// Copies the view of `pass` as of the beginning of the read.
    pub fn copy_view(
        &self,
        during: Option<&Batch<'_>>,
        features: &DuringFeatures,
        pass: &mut Pass,
    ) -> Result<(), RequestError> {
        {
            let state = &*self.engine.state()?;
            copy_view(state, during, features, pass);
            self.engine.counts.shown(pass.queries.len());
            if self.with(|snapshot| snapshot.history.is_unchanged_in(&pass.view, &state.history)) {
                return Ok(());
            }
        }
        let state = &mut *self.engine.state_mut()?;
        self.with(|snapshot| {
            state.history.view_snapshot_into(&mut snapshot.history, &pass.queries, during, sampling(), &mut pass.view);
        });
        if let Some(features) = features {
            pass.view.edge_features = Some(features.clone());
        }
        Ok(())
    }

    /// Some of the destinations at that position, by index, with the users' ids.
    pub fn destinations(&self, places: Range<usize>) -> Result<Vec<(NodeId, ExternalId)>, RequestError> {
        let state = &*self.engine.state()?;
        Ok(self.with(|snapshot| snapshot.names.part(&state.names, places)))
    }

    fn with<R>(&self, task: impl FnOnce(&mut ReadSnapshot) -> R) -> R {
        let mut snapshots = self.engine.snapshots();
        let snapshot = snapshots.iter_mut().find(|snapshot| snapshot.number == self.number);
        task(snapshot.expect("it is kept until the read is dropped"))
    }
}

impl Drop for SnapshotRead<'_> {
    fn drop(&mut self) {
        self.engine.snapshots().retain(|snapshot| snapshot.number != self.number);
    }
}
