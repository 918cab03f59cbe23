//! Exclusive access to the state for one writer.

use std::ops::{Deref, DerefMut};
use std::sync::RwLockWriteGuard;
use std::time::Instant;

use crate::engine::state::State;
use crate::engine::state::stats::Counts;

/// The exclusively locked state. Records how long it was held when it is dropped.
pub(crate) struct ExclusiveState<'a> {
    state: RwLockWriteGuard<'a, State>,
    since: Instant,
    counts: &'a Counts,
}

impl<'a> ExclusiveState<'a> {
    pub fn new(state: RwLockWriteGuard<'a, State>, counts: &'a Counts) -> ExclusiveState<'a> {
        ExclusiveState { state, since: Instant::now(), counts }
    }
}

impl Deref for ExclusiveState<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for ExclusiveState<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for ExclusiveState<'_> {
    fn drop(&mut self) {
        self.counts.exclusive(self.since.elapsed());
    }
}
