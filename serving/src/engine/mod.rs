//! A model and its history, asked and told in the user's own ids and times, by many at once.
pub(crate) mod answer;
pub(crate) mod embedding_cache;
mod expire;
mod read;
mod retract;
mod save;
pub(crate) mod snapshot_read;
#[cfg(test)]
mod snapshot_read_tests;
mod spec;
mod state;
pub(crate) mod workspace;
mod write;

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};

use serde_json::Number;
use tempograph_framework::{Draw, History, Purpose, PurposeDraw};
use tempograph_models::SliceProgram;

use crate::artifact::features::EdgeStore;
use crate::artifact::manifest::{ArtifactError, Manifest};
use crate::artifact::open::{Opened, open};
use crate::artifact::past::PastHash;
use crate::engine::state::pass::Pass;
use crate::engine::workspace::Workspaces;
use crate::request::{Position, RequestError, user_time};
pub(crate) use embedding_cache::EmbeddingBatch;
use embedding_cache::{EmbeddingCache, Part};
pub(crate) use expire::NODES_A_PART;
pub use retract::Retraction;
use snapshot_read::ReadSnapshot;
pub use spec::{EngineSpec, Strategy};
use state::State;
use state::capture::Capture;
use state::exclusive::ExclusiveState;
use state::stats::Counts;
pub use state::stats::EngineStats;

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
/// A large read does so a part at a time, and events that come in between let it have what they write over.
/// Writes take turns; a write computes beside the reads and holds the lock alone only while an event's few rows are written.
/// A write that breaks off by a panic leaves the engine [broken](Engine::is_broken): nothing is told to it any more, and where the
/// panic came while rows were written nothing is asked of it either.
#[derive(Debug)]
pub struct Engine {
    manifest: Manifest,
    spec: EngineSpec,
    model: SliceProgram,
    state: RwLock<State>,
    /// Held by the one who writes, with the copy that is being made of what it writes to.
    writer: Mutex<WriterState>,
    /// Held by the one who makes such a copy.
    saving: Mutex<()>,
    /// Embeddings, where the model's can be kept. Locked for no longer than they are copied, and after the state where both are.
    cache: Option<Mutex<EmbeddingCache>>,
    /// What reads in parts look back at. Locked after the state where both are.
    read_snapshots: Mutex<Vec<ReadSnapshot>>,
    counts: Counts,
    edges: Option<Arc<EdgeStore>>,
    /// A hash of what has happened, where the artifact has one. Locked by who has the writer's lock.
    past: Mutex<Option<PastHash>>,
    spaces: Workspaces,
}

/// What the one who writes has to itself: the copy in the making, if there is one.
type WriterState = Option<Capture>;

/// What has happened so far, held still: no event happens while somebody looks at it.
#[derive(Debug)]
pub struct HistoryGuard<'a>(RwLockReadGuard<'a, State>);

impl Deref for HistoryGuard<'_> {
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
        Engine::open_with(dir, &EngineSpec::default())
    }

    /// As [`open`](Engine::open), to work as `spec` says.
    ///
    /// # Errors
    /// As [`open`](Engine::open); [`ArtifactError::Inconsistent`] for a spec that will not do.
    pub fn open_with(dir: &Path, spec: &EngineSpec) -> Result<Engine, ArtifactError> {
        spec.check().map_err(|fact| ArtifactError::Inconsistent { fact })?;
        let Opened { manifest, model, mut history, names, edges } = open(dir)?;
        let spec = spec.clone();
        if spec.strategy != Strategy::Full {
            history.enable_updated_cache();
        }
        history.grow_in_place();
        let cache = Engine::can_cache_embeddings(&model, spec.strategy)
            .map(|widths| Mutex::new(EmbeddingCache::new(spec.kept, widths)));
        let state = RwLock::new(State { history, names });
        let past = Mutex::new(manifest.past.as_deref().and_then(PastHash::parse));
        Ok(Engine {
            manifest,
            spec,
            model,
            state,
            writer: Mutex::default(),
            saving: Mutex::default(),
            cache,
            read_snapshots: Mutex::default(),
            counts: Counts::default(),
            edges,
            past,
            spaces: Workspaces::default(),
        })
    }

    /// What the artifact said of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How it works.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// How much has been computed, and how much not.
    pub fn stats(&self) -> EngineStats {
        self.counts.read()
    }

    /// What has happened so far. Nothing happens while it is held, so it is not to be held for long.
    pub fn history(&self) -> HistoryGuard<'_> {
        HistoryGuard(self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// How much has happened so far.
    pub fn position(&self) -> Position {
        position(&self.history())
    }

    /// Time of the newest event in the user's own unit.
    pub fn newest(&self) -> Option<Number> {
        self.history().newest().map(|newest| user_time(&self.manifest.time_unit, newest))
    }

    /// Nodes known so far.
    pub fn nodes(&self) -> usize {
        self.history().nodes()
    }

    /// Whether a write has broken off half-way, by a bug.
    pub fn is_broken(&self) -> bool {
        self.writer.is_poisoned() || self.state.is_poisoned()
    }

    /// A source that can be asked about, if there is any.
    pub fn example(&self) -> Option<u64> {
        let state = self.state().ok()?;
        state.names.any_source().filter(|_| state.history.newest().is_some())
    }

    fn state(&self) -> Result<RwLockReadGuard<'_, State>, RequestError> {
        self.state.read().map_err(|_| RequestError::Broken)
    }

    fn state_mut(&self) -> Result<ExclusiveState<'_>, RequestError> {
        let state = self.state.write().map_err(|_| RequestError::Broken)?;
        Ok(ExclusiveState::new(state, &self.counts))
    }

    /// Lets a copy in the making have what is about to be written over.
    fn before_writing(
        &self,
        writer: &mut WriterState,
        keep: impl FnOnce(&mut Capture, &State),
    ) -> Result<(), RequestError> {
        if let Some(capture) = writer {
            keep(capture, &*self.state()?);
            self.counts.copied(capture.rows_copied());
        }
        Ok(())
    }
}

impl Engine {
    /// Keeps the memories that a pass had to bring up to date, so that nobody has to again.
    fn keep_memories(&self, pass: &Pass) -> Result<(), RequestError> {
        self.counts.memories(pass);
        if self.spec.strategy != Strategy::Full && pass.mails_read() > 0 {
            self.state_mut()?.history.cache_updated(pass.update(), pass.view.version);
        }
        Ok(())
    }
}

fn position(history: &History) -> Position {
    Position { log_seq: history.seen(), version: history.version() }
}

/// Uniform neighbours are drawn as evaluation draws them: the same way every time.
fn sampling() -> PurposeDraw {
    Draw::new(0).of(Purpose::Sampling)
}
