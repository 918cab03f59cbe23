//! Long reads: answered a part at a time, all of it as of the moment they began at, while events go on.
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tempograph_framework::{Batch, Earlier, NodeId, Timestamp};

use crate::artifact::names::Names;
use crate::engine::read::{ShownFeatures, look};
use crate::engine::state::State;
use crate::engine::state::pass::Pass;
use crate::engine::{Engine, position, sampling};
use crate::request::{Position, RequestError};

/// What there was at a moment that a long read looks back at, as far as it has changed since.
#[derive(Debug)]
pub(super) struct Back {
    number: u64,
    pub history: Earlier,
    pub names: EarlierNames,
}

/// Which destinations there were.
#[derive(Debug)]
pub(super) struct EarlierNames {
    destinations: usize,
    /// By place, where others stand there now.
    moved: FxHashMap<usize, NodeId>,
    /// The users' ids of nodes that were forgotten since.
    own: FxHashMap<NodeId, u64>,
}

impl EarlierNames {
    fn of(names: &Names) -> EarlierNames {
        EarlierNames {
            destinations: names.destinations().len(),
            moved: FxHashMap::default(),
            own: FxHashMap::default(),
        }
    }

    /// Before nodes are forgotten.
    pub fn before_forgetting(&mut self, names: &Names, nodes: &[NodeId]) {
        for place in names.places_of_forgetting(nodes).filter(|&place| place < self.destinations) {
            self.moved.entry(place).or_insert_with(|| names.destinations()[place]);
        }
        for &node in nodes {
            self.own.entry(node).or_insert_with(|| names.own(node));
        }
    }

    fn part(&self, names: &Names, places: Range<usize>) -> Vec<(NodeId, u64)> {
        let node = |place| self.moved.get(&place).copied().unwrap_or_else(|| names.destinations()[place]);
        let own = |node| self.own.get(&node).copied().unwrap_or_else(|| names.own(node));
        places.map(node).map(|node| (node, own(node))).collect()
    }
}

/// A read in parts. What it looks back at is kept until it is dropped.
///
/// Those who write let it have what they are about to write over. A part of which nothing was written since is copied as it stands, beside
/// other reads; for another, what it is shown is put back for as long as it is copied. Nobody waits for more than a part.
#[derive(Debug)]
pub(super) struct LongRead<'a> {
    engine: &'a Engine,
    number: u64,
    /// The moment it began at.
    pub position: Position,
    /// Time of the newest event then.
    pub newest: Option<Timestamp>,
}

impl Engine {
    /// Begins a read in parts of what there is now. The state stays locked by whoever has it.
    pub(super) fn read_in_parts(&self, state: &State) -> LongRead<'_> {
        let mut backs = self.backs();
        let number = backs.last().map_or(0, |last| last.number + 1);
        backs.push(Back { number, history: state.history.earlier(), names: EarlierNames::of(&state.names) });
        LongRead { engine: self, number, position: position(&state.history), newest: state.history.newest() }
    }

    /// Lets long reads have what is about to be written over. The state is locked by who writes.
    pub(super) fn let_keep(&self, keep: impl FnMut(&mut Back)) {
        self.backs().iter_mut().for_each(keep);
    }

    fn backs(&self) -> MutexGuard<'_, Vec<Back>> {
        // Where a copy broke off the state is poisoned, too, and nothing is read any more.
        self.looked_back_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LongRead<'_> {
    /// Copies what `pass` asks about as it was when the read began.
    pub fn look(
        &self,
        during: Option<&Batch<'_>>,
        features: &ShownFeatures,
        pass: &mut Pass,
    ) -> Result<(), RequestError> {
        {
            let state = &*self.engine.state()?;
            look(state, during, features, pass);
            self.engine.counts.shown(pass.queries.len());
            if self.with(|back| back.history.is_shown_by(&pass.view, &state.history)) {
                return Ok(());
            }
        }
        let state = &mut *self.engine.state_mut()?;
        self.with(|back| {
            state.history.view_earlier_into(&mut back.history, &pass.queries, during, sampling(), &mut pass.view);
        });
        if let Some(features) = features {
            pass.view.edge_features = Some(features.clone());
        }
        Ok(())
    }

    /// Some of the destinations there were, by their places, with the users' ids.
    pub fn destinations(&self, places: Range<usize>) -> Result<Vec<(NodeId, u64)>, RequestError> {
        let state = &*self.engine.state()?;
        Ok(self.with(|back| back.names.part(&state.names, places)))
    }

    fn with<R>(&self, task: impl FnOnce(&mut Back) -> R) -> R {
        let mut backs = self.engine.backs();
        let back = backs.iter_mut().find(|back| back.number == self.number);
        task(back.expect("it is kept until the read is dropped"))
    }
}

impl Drop for LongRead<'_> {
    fn drop(&mut self) {
        self.engine.backs().retain(|back| back.number != self.number);
    }
}
