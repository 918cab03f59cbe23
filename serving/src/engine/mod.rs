//! A model and its history. Many threads may query it and submit events to it, in the user's own ids and times.
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

use rustc_hash::FxHashSet;
use serde_json::Number;
use tempograph_framework::{Draw, History, Purpose, PurposeDraw, Side};
use tempograph_models::SliceProgram;

use crate::artifact::features::EdgeStore;
use crate::artifact::manifest::{ArtifactError, Manifest};
use crate::artifact::open::{Opened, open};
use crate::artifact::past::PastHash;
use crate::engine::state::pass::Pass;
use crate::engine::workspace::Workspaces;
use crate::request::id::ExternalId;
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

/// A model with the history that it has observed so far.
///
/// Reads and writes call the same functions and kernels as training: [`History::view_into`],
/// [`forward`](tempograph_framework::SliceModel::forward) or [`advance`](tempograph_framework::SliceModel::advance),
/// [`History::observe`]. They reuse their buffers: after the largest request so far, an event and a score allocate
/// nothing.
///
/// - A read at time `t` sees neighbours strictly before `t` and the current memories. The memories include every
///   observed event, so a read before the newest event is refused. A read at the time of the newest event sees that
///   event in the memories, as a training batch does that begins within a tick.
/// - Events are applied in order of time. A late event is refused, and its whole request with it.
/// - An unknown id becomes a new node when an event names it. A read that names an unknown id is an error.
///
/// # Many readers, one writer
///
/// The history is behind a read-write lock. No thread holds the lock while a model computes. A read holds it shared
/// while it copies its view, and computes the answer from the copy. So a whole answer is of one [`Position`], which the
/// answer contains. A large read copies its view in parts; a writer saves old values for it before it overwrites them.
/// Writes take turns. A write computes in parallel with reads, and holds the lock exclusively only while it writes the
/// few rows of an event. A panic in a write leaves the engine [broken](Engine::is_broken): it applies no more events.
/// If the panic came while rows were written, it answers no more reads either.
#[derive(Debug)]
pub struct Engine {
    manifest: Manifest,
    spec: EngineSpec,
    model: SliceProgram,
    state: RwLock<State>,
    /// Held by the writing thread. Contains the copy that [`save`](Engine::save) is making, if there is one.
    writer: Mutex<WriterState>,
    /// Held by the thread that saves.
    saving: Mutex<()>,
    /// Embeddings, where those of the model can be cached. Held only for lookups and inserts. Where both are locked,
    /// the state is locked first.
    cache: Option<Mutex<EmbeddingCache>>,
    /// Undo logs of reads in parts. Where both are locked, the state is locked first.
    read_snapshots: Mutex<Vec<ReadSnapshot>>,
    counts: Counts,
    /// Features of events. Replaced under the lock of the state.
    edges: Option<RwLock<Arc<EdgeStore>>>,
    /// A hash of what has happened, where the artifact has one. Locked by who has the writer's lock.
    past: Mutex<Option<PastHash>>,
    spaces: Workspaces,
}

/// Called before each chunk of a long read with the share of the work that is done. Returns how many items the chunk may
/// have, or the error with which the read ends.
pub(crate) type Pace<'a> = &'a mut dyn FnMut(f64) -> Result<usize, RequestError>;

/// State of the writing thread: the copy in progress, if there is one.
type WriterState = Option<Capture>;

/// The history, locked for reading: no event is applied while a guard exists.
#[derive(Debug)]
pub struct HistoryGuard<'a>(RwLockReadGuard<'a, State>);

impl Deref for HistoryGuard<'_> {
    type Target = History;

    fn deref(&self) -> &History {
        &self.0.history
    }
}

impl Engine {
    /// Opens an artifact and verifies every byte.
    ///
    /// # Errors
    /// [`ArtifactError`] naming the file and its fault.
    pub fn open(dir: &Path) -> Result<Engine, ArtifactError> {
        Engine::open_with(dir, &EngineSpec::default())
    }

    /// As [`open`](Engine::open), with the settings of `spec`.
    ///
    /// # Errors
    /// As [`open`](Engine::open); [`ArtifactError::Inconsistent`] for an invalid spec.
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
            edges: edges.map(RwLock::new),
            past,
            spaces: Workspaces::default(),
        })
    }

    /// The artifact's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The engine's settings.
    pub fn spec(&self) -> &EngineSpec {
        &self.spec
    }

    /// Counts of computations, and of computations that a cache saved.
    pub fn stats(&self) -> EngineStats {
        self.counts.read()
    }

    /// The history. No event is applied while the guard is held, so do not hold it for long.
    pub fn history(&self) -> HistoryGuard<'_> {
        HistoryGuard(self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The position of the history.
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

    /// Bytes of the features of events that are kept.
    pub fn feature_bytes(&self) -> usize {
        self.edge_store().map_or(0, |edges| edges.bytes())
    }

    /// Bytes of memories, mail, neighbours and names' histories, without features.
    pub fn history_bytes(&self) -> usize {
        self.history().bytes()
    }

    /// The features of events, where the model reads any.
    fn edge_store(&self) -> Option<Arc<EdgeStore>> {
        // Ignoring poison is safe: the pointer is replaced in one step.
        let edges = self.edges.as_ref()?;
        Some(edges.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone())
    }

    /// Number of nodes that these events would add.
    pub(crate) fn new_nodes(&self, events: &[crate::request::NewEvent]) -> usize {
        let Ok(state) = self.state() else { return 0 };
        let sides = |event: &crate::request::NewEvent| {
            let side = |side, id: &ExternalId| {
                state
                    .names
                    .find(side, id)
                    .is_none()
                    .then_some((state.names.bipartite() && side == Side::Destination, id.clone()))
            };
            [side(Side::Source, &event.src), side(Side::Destination, &event.dst)]
        };
        events.iter().flat_map(sides).flatten().collect::<FxHashSet<_>>().len()
    }

    /// Whether a write panicked before it was complete. This is a bug.
    pub fn is_broken(&self) -> bool {
        self.writer.is_poisoned() || self.state.is_poisoned()
    }

    /// The id of a source that can be queried, if there is one.
    pub fn example(&self) -> Option<ExternalId> {
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

    /// Copies the rows that are about to be overwritten, for a copy in progress.
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
    /// Caches the memories that a pass updated, so that no later pass computes them again.
    fn keep_memories(&self, pass: &Pass) -> Result<(), RequestError> {
        self.counts.memories(pass);
        if self.spec.strategy != Strategy::Full && pass.mails_read() > 0 {
            self.state_mut()?.history.cache_updated(pass.update(), &pass.view);
        }
        Ok(())
    }
}

fn position(history: &History) -> Position {
    Position { log_seq: history.seen(), version: history.version() }
}

/// Uniform neighbours are drawn as in evaluation: the draw is the same every time.
fn sampling() -> PurposeDraw {
    Draw::new(0).of(Purpose::Sampling)
}
