//! A model and its history, asked and told in the user's own ids and times, by many at once.

mod read;
mod save;
mod size;
mod state;
mod write;

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tempograph_framework::{Draw, History, Purpose, PurposeDraw};

use crate::features::EdgeStore;
use crate::manifest::{ArtifactError, Manifest};
use crate::model::Served;
use crate::open::{Opened, open};
use crate::request::{Position, RequestError};
use crate::workspace::Workspaces;
use state::State;

/// A TGN with what it has seen so far.
///
/// Reads and writes go the way training goes, through the same kernels: [`History::view_into`], [`forward`](tempograph_framework::SliceModel::forward) or
/// [`advance`](tempograph_framework::SliceModel::advance), [`History::observe`]. They work in memory that is kept: an event and a score ask for none once the largest
/// request has been seen.
///
/// - A read at time `t` sees neighbours strictly before `t` and the memories of now. Since those hold every event observed, a read
///   before the newest event is refused; a read at its very time sees it in the memories, as a training batch does that cuts a tick.
/// - Events come in order of time; a late one is refused, and with it its whole request.
/// - An id that is new becomes a new node when an event names it. A read that names it before is an error.
///
/// # Many readers, one writer
///
/// What has happened stands behind a lock that nobody holds while a model computes. A read holds it, shared with other reads, while it
/// copies what it is shown of the past, and is answered from the copy: all of an answer is as of one [`Position`], which comes with it.
/// Writes take turns; a write computes beside the reads and holds the lock alone only while an event's few rows are written.
/// A write that breaks off by a panic leaves the engine [broken](Engine::is_broken): nothing is told to it any more, and where the
/// panic came while rows were written nothing is asked of it either.
#[derive(Debug)]
pub struct Engine {
    manifest: Manifest,
    model: Served,
    state: RwLock<State>,
    /// Held by the one who writes.
    turn: Mutex<()>,
    edges: Option<Arc<EdgeStore>>,
    spaces: Workspaces,
}

/// What has happened so far, held still: no event happens while somebody looks at it.
#[derive(Debug)]
pub struct Past<'a>(RwLockReadGuard<'a, State>);

impl Deref for Past<'_> {
    type Target = History;

    fn deref(&self) -> &History {
        &self.0.history
    }
}

impl Engine {
    /// Opens an artifact, checking every byte.
    ///
    /// # Errors
    /// [`ArtifactError`] naming the file and what is wrong with it.
    pub fn open(dir: &Path) -> Result<Engine, ArtifactError> {
        let Opened { manifest, model, history, names, edges } = open(dir)?;
        let state = RwLock::new(State { history, names });
        Ok(Engine { manifest, model: Served::of(model), state, turn: Mutex::default(), edges, spaces: Workspaces::default() })
    }

    /// What the artifact said of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What has happened so far. Nothing happens while it is held, so it is not to be held for long.
    pub fn history(&self) -> Past<'_> {
        Past(self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// How much has happened so far.
    pub fn position(&self) -> Position {
        position(&self.history())
    }

    /// Time of the newest event in the user's own unit.
    pub fn newest(&self) -> Option<f64> {
        self.history().newest().map(|newest| self.manifest.time_unit.from_ticks(newest))
    }

    /// Nodes known so far.
    pub fn nodes(&self) -> usize {
        self.history().nodes()
    }

    /// Whether a write has broken off half-way, by a bug.
    pub fn is_broken(&self) -> bool {
        self.turn.is_poisoned() || self.state.is_poisoned()
    }

    /// A source that can be asked about, if there is any.
    pub fn example(&self) -> Option<u64> {
        let state = self.state().ok()?;
        state.names.any_source().filter(|_| state.history.newest().is_some())
    }

    fn state(&self) -> Result<RwLockReadGuard<'_, State>, RequestError> {
        self.state.read().map_err(|_| RequestError::Broken)
    }

    fn state_mut(&self) -> Result<RwLockWriteGuard<'_, State>, RequestError> {
        self.state.write().map_err(|_| RequestError::Broken)
    }
}

fn position(history: &History) -> Position {
    Position { log_seq: history.seen(), version: history.version() }
}

/// Uniform neighbours are drawn as evaluation draws them: the same way every time.
fn sampling() -> PurposeDraw {
    Draw::new(0).of(Purpose::Sampling)
}
