//! Saves the engine's state as an artifact, while reads and events continue.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use tempograph_framework::{Features, History, SliceModel, Store, StoreParts};
use tempograph_kernels::Rows;

use crate::artifact::export::{appear, seal};
use crate::artifact::manifest::{ArtifactError, FEATURES, HISTORY, IDS, Manifest, VERSION, WEIGHTS};
use crate::engine::Engine;
use crate::engine::state::capture::{Capture, InFile, Piece};

/// Most rows copied at a time, while events wait.
const AT_ONCE: usize = 1024;
/// Rows of features in one part of their file.
const FEATURES_A_PART: usize = 4096;

impl Engine {
    /// Writes the model and its history at one position as an artifact. The folder `dir` appears whole or not at all.
    /// An artifact that is already there is replaced. The returned manifest names the position.
    ///
    /// Reads continue. Events continue as well: they wait only while a few rows are copied, however large the history
    /// is. Memory holds the rows that are being written, and the state is on the disk a second time while it is
    /// written.
    ///
    /// # Errors
    /// [`ArtifactError`]; then `dir` is unchanged. [`ArtifactError::Inconsistent`] for a [broken](Engine::is_broken)
    /// engine.
    pub fn save(&self, dir: &Path) -> Result<Manifest, ArtifactError> {
        // A panic under this lock leaves nothing half-done: the next save begins a new copy.
        let _one = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = appear(dir, true, |fresh| self.copy_to(fresh));
        if let Ok(mut writer) = self.writer.lock() {
            // Drops an abandoned copy, so that writers stop copying rows for it.
            *writer = None;
        }
        saved
    }

    fn copy_to(&self, dir: &Path) -> Result<Manifest, ArtifactError> {
        let (manifest, constant) = self.begin(AT_ONCE)?;
        let mut files = Files::create(dir, self.edges.is_some())?;
        loop {
            let pieces = self.next_pieces()?;
            if pieces.is_empty() {
                break;
            }
            pieces.iter().try_for_each(|piece| files.put(piece))?;
        }
        let mut names = vec![WEIGHTS, IDS, HISTORY];
        self.model.parameters().to_store().write(&dir.join(WEIGHTS))?;
        files.ids.write(&dir.join(IDS))?;
        files.history.write(&dir.join(HISTORY))?;
        if manifest.widths.reads_features() {
            self.write_features(dir, &constant, manifest.nodes, &files.referred)?;
            names.push(FEATURES);
        }
        seal(dir, manifest, self.model.spec(), &names)
    }

    /// Begins a copy at the position that the manifest names.
    pub(super) fn begin(&self, at_once: usize) -> Result<(Manifest, Features), ArtifactError> {
        let mut writer = self.writer.lock().map_err(|_| broken())?;
        let state = self.state().map_err(|_| broken())?;
        *writer = Some(Capture::begin(&state, at_once));
        Ok((self.manifest_of(&state.history, state.names.len()), state.history.features().clone()))
    }

    /// The pieces copied since the last call; empty once everything is copied.
    pub(super) fn next_pieces(&self) -> Result<Vec<Piece>, ArtifactError> {
        let mut writer = self.writer.lock().map_err(|_| broken())?;
        let Some(capture) = writer.as_mut() else { return Ok(Vec::new()) };
        let pieces = capture.next(&*self.state().map_err(|_| broken())?);
        self.counts.copied(capture.rows_copied());
        Ok(pieces)
    }

    fn manifest_of(&self, history: &History, nodes: usize) -> Manifest {
        Manifest {
            version: VERSION,
            tempograph: env!("CARGO_PKG_VERSION").into(),
            log_position: history.seen(),
            newest: history.newest().map(|time| time.0),
            past: self.past.lock().unwrap_or_else(PoisonError::into_inner).map(|past| past.to_string()),
            nodes,
            files: BTreeMap::new(),
            ..self.manifest.clone()
        }
    }

    /// Writes the features of all nodes, and of the events that the copy refers to. `constant` is of the position of the
    /// copy: a store that has replaced that of events since may lack rows.
    fn write_features(
        &self,
        dir: &Path,
        constant: &Features,
        nodes: usize,
        referred: &Numbers,
    ) -> Result<(), ArtifactError> {
        let mut parts = StoreParts::create(&dir.join("features.parts"))?;
        if let Some(rows) = &constant.edges {
            put_edges(&mut parts, rows.as_ref(), referred)?;
        }
        for (name, rows) in [("node", &constant.nodes), ("static", &constant.static_memory)] {
            if let Some(rows) = rows {
                put_rows(&mut parts, name, rows, nodes)?;
            }
        }
        Ok(parts.write(&dir.join(FEATURES))?)
    }
}

fn broken() -> ArtifactError {
    ArtifactError::Inconsistent { fact: "the engine broke off in the middle of an event".into() }
}

fn put_edges(parts: &mut StoreParts, rows: &dyn Rows, referred: &Numbers) -> Result<(), ArtifactError> {
    let mut events = referred.iter().peekable();
    let mut key = 0;
    // At least one part is written, so that the file has its arrays.
    while key == 0 || events.peek().is_some() {
        let part: Vec<u64> = events.by_ref().take(FEATURES_A_PART).collect();
        let mut store = Store::default();
        store.put(
            "edge.row",
            [part.len(), rows.width()],
            part.iter().flat_map(|&event| rows.row(event)).copied().collect(),
        );
        store.put("edge.event", [part.len()], part);
        parts.put(key, &store)?;
        key += 1;
    }
    Ok(())
}

fn put_rows(parts: &mut StoreParts, name: &str, rows: &Arc<dyn Rows>, nodes: usize) -> Result<(), ArtifactError> {
    for start in (0..nodes.max(1)).step_by(FEATURES_A_PART) {
        let part = start..nodes.min(start + FEATURES_A_PART);
        let mut store = Store::default();
        store.put(name, [part.len(), rows.width()], part.flat_map(|node| rows.row(node as u64)).copied().collect());
        parts.put(start as u64, &store)?;
    }
    Ok(())
}

/// The files to which pieces are written.
pub(super) struct Files {
    pub history: StoreParts,
    pub ids: StoreParts,
    /// Events in neighbour lists, waiting mail or the newest tick, if their features are to be written.
    referred: Numbers,
    with_edges: bool,
}

impl Files {
    pub fn create(dir: &Path, with_edges: bool) -> Result<Files, ArtifactError> {
        let parts = |name: &str| StoreParts::create(&dir.join(name));
        Ok(Files {
            history: parts("history.parts")?,
            ids: parts("ids.parts")?,
            referred: Numbers::default(),
            with_edges,
        })
    }

    pub fn put(&mut self, piece: &Piece) -> Result<(), ArtifactError> {
        let events = History::ARRAYS_OF_EVENTS.into_iter().filter(|_| self.with_edges);
        for event in events.filter_map(|name| piece.part.get::<u64>(name)).flatten() {
            self.referred.insert(*event);
        }
        match piece.file {
            InFile::History => self.history.put(piece.key, &piece.part)?,
            InFile::Ids => self.ids.put(piece.key, &piece.part)?,
        }
        Ok(())
    }
}

/// A set of numbers: one bit for each number up to the largest.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl Numbers {
    fn insert(&mut self, number: u64) {
        let word = (number / 64) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// The numbers, ascending.
    fn iter(&self) -> impl Iterator<Item = u64> {
        let in_word = |(at, &word): (usize, &u64)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at as u64 * 64 + bit)
        };
        self.0.iter().enumerate().flat_map(in_word)
    }
}
