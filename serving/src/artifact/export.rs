//! Writes an artifact: everything that a server needs, whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempograph_framework::{Dataset, History, SliceModel, Store, write_atomic};
use tempograph_kernels::Rows;
use tempograph_models::{ModelSpec, SliceProgram};

use crate::artifact::manifest::{
    ArtifactError, DatasetFacts, FEATURES, FORMAT, FileFacts, HISTORY, IDS, MANIFEST, Manifest, SPEC, VERSION, WEIGHTS,
    Widths,
};
use crate::artifact::names::Names;
use crate::artifact::open;
use crate::artifact::past::PastHash;

/// A model and its history, to be written as an artifact.
///
/// The folder holds `manifest.json` ([`Manifest`]), `spec.toml` (the model's settings), `weights.safetensors` (dotted
/// names), `history.safetensors` ([`History::to_store`]) and `ids.safetensors`: the user's own ids `own [N]` and
/// `side [N]`, and `destinations`, the nodes that were a destination so far. Where the model reads features, it holds
/// `features.safetensors`: `node [N, F]`, and the rows of the edge features that the history still refers to,
/// `edge.event [M]` and `edge.row [M, E]`; where the model reads static memory, `static [N, S]`.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// The trained model.
    pub model: &'a SliceProgram,
    /// The history: the first events of the dataset's log, in order.
    pub history: &'a History,
    /// The dataset of the events.
    pub dataset: &'a Dataset,
    /// Events a batch in training.
    pub batch: usize,
    /// Whether an existing artifact is replaced.
    pub replace: bool,
}

/// The content of `spec.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpecFile {
    pub model: ModelSpec,
}

impl Export<'_> {
    /// Writes the folder `dir`. It appears whole or not at all, and only if it can be opened again.
    ///
    /// # Errors
    /// [`ArtifactError`]; then `dir` is unchanged.
    pub fn write(&self, dir: &Path) -> Result<Manifest, ArtifactError> {
        self.check()?;
        let history = self.history.to_store();
        let ids = Names::of_dataset(self.dataset, self.history.seen() as usize).to_store();
        let stores = [
            (WEIGHTS, Some(self.model.parameters().to_store())),
            (IDS, Some(ids)),
            (FEATURES, self.features(&history)),
            (HISTORY, Some(history)),
        ];
        let stores: Vec<(&str, Store)> = stores.into_iter().filter_map(|(name, store)| Some((name, store?))).collect();
        appear(dir, self.replace, |fresh| {
            stores.iter().try_for_each(|(name, store)| store.write(&fresh.join(name)))?;
            let names: Vec<&str> = stores.iter().map(|(name, _)| *name).collect();
            let manifest = seal(fresh, self.manifest(), self.model.spec(), &names)?;
            open::open(fresh)?;
            Ok(manifest)
        })
    }

    /// Refuses a model, a history and a dataset that do not belong together.
    fn check(&self) -> Result<(), ArtifactError> {
        let (history, set) = (self.history, self.dataset);
        let known = history.features().static_memory.as_ref().map_or(0, |rows| rows.width());
        let fact = if let Err(fact) = self.model.program().links() {
            fact
        } else if history.nodes() != set.nodes {
            format!("the history holds {} nodes, the dataset `{}` {}", history.nodes(), set.name, set.nodes)
        } else if history.seen() > set.log.len() as u64 {
            format!("the history has seen {} events, the dataset `{}` has {}", history.seen(), set.name, set.log.len())
        } else if self.widths().edge > 0 && self.widths().edge != set.edge_width() {
            format!(
                "the model reads {} edge features, the dataset `{}` has {}",
                self.widths().edge,
                set.name,
                set.edge_width()
            )
        } else if self.widths().node > 0 && self.widths().node != set.node_width() {
            format!(
                "the model reads {} node features, the dataset `{}` has {}",
                self.widths().node,
                set.name,
                set.node_width()
            )
        } else if self.static_width() > 0 && self.static_width() != known {
            format!("the model reads static memory of width {}, the history shows {known}", self.static_width())
        } else if self.batch == 0 {
            "the training batch size is 0".into()
        } else {
            return Ok(());
        };
        Err(ArtifactError::Inconsistent { fact })
    }

    /// Width of the static memory that the model reads.
    fn static_width(&self) -> usize {
        self.widths().static_memory
    }

    fn widths(&self) -> Widths {
        Widths::of(self.model.program())
    }

    fn manifest(&self) -> Manifest {
        let set = self.dataset;
        Manifest {
            format: FORMAT.into(),
            version: VERSION,
            tempograph: env!("CARGO_PKG_VERSION").into(),
            model: self.model.spec().kind().into(),
            batch: self.batch,
            log_position: self.history.seen(),
            newest: self.history.newest().map(|time| time.0),
            past: Some(PastHash::of_dataset(set, self.history.seen() as usize).to_string()),
            time_unit: set.time_unit.clone(),
            dataset: DatasetFacts { name: set.name.clone(), sha256: set.checksum.clone() },
            nodes: set.nodes,
            sides: set.sides,
            text_ids: set.ids.is_text(),
            widths: self.widths(),
            files: BTreeMap::new(),
        }
    }

    /// The features that a server may need: those of all nodes, and those of the events that the history still refers
    /// to.
    fn features(&self, history: &Store) -> Option<Store> {
        let mut store = Store::default();
        if let (true, Some(rows)) = (self.widths().edge > 0, self.dataset.log.features()) {
            let events = referred_to(history);
            let values = events.iter().flat_map(|&event| rows.row(event)).copied().collect();
            store.put("edge.row", [events.len(), rows.width()], values);
            store.put("edge.event", [events.len()], events);
        }
        if let (true, Some(table)) = (self.widths().node > 0, &self.dataset.node_features) {
            store.put("node", [table.rows(), table.width()], table.values().to_vec());
        }
        if let (width @ 1.., Some(rows)) = (self.static_width(), &self.history.features().static_memory) {
            let values = (0..self.history.nodes() as u64).flat_map(|node| rows.row(node)).copied().collect();
            store.put("static", [self.history.nodes(), width], values);
        }
        let any = store.names().next().is_some();
        any.then_some(store)
    }
}

/// Makes the folder `dir` appear whole or not at all. `fill` fills it under another name, and writes its manifest last.
/// An existing artifact is replaced if `replace` is true.
pub(crate) fn appear(
    dir: &Path,
    replace: bool,
    fill: impl FnOnce(&Path) -> Result<Manifest, ArtifactError>,
) -> Result<Manifest, ArtifactError> {
    let replaced = make_room(dir, replace)?;
    let fresh = sibling(dir, "partial");
    let made = fs::create_dir_all(&fresh).map_err(ArtifactError::io(&fresh));
    let written = made.and_then(|()| fill(&fresh)).and_then(|manifest| {
        put_in_place(&fresh, dir, replaced).map_err(ArtifactError::io(dir))?;
        Ok(manifest)
    });
    if written.is_err() {
        // The error above is returned, so an error of this clean-up is ignored.
        let _ = fs::remove_dir_all(&fresh);
    }
    written
}

/// Writes the settings and the manifest, which holds sizes and checksums of the settings and of the files `arrays`.
pub(crate) fn seal(
    dir: &Path,
    manifest: Manifest,
    spec: &ModelSpec,
    arrays: &[&str],
) -> Result<Manifest, ArtifactError> {
    let damaged = |name: &str, fact: String| ArtifactError::Damaged { path: dir.join(name), fact };
    let text =
        toml::to_string_pretty(&SpecFile { model: spec.clone() }).map_err(|error| damaged(SPEC, error.to_string()))?;
    write_file(&dir.join(SPEC), text.as_bytes())?;
    let facts = |name: &&str| {
        let path = dir.join(name);
        FileFacts::of(&path).map(|facts| (name.to_string(), facts)).map_err(ArtifactError::io(&path))
    };
    let files = arrays.iter().chain([&SPEC]).map(facts).collect::<Result<_, _>>()?;
    let manifest = Manifest { files, ..manifest };
    let mut text = serde_json::to_vec_pretty(&manifest).map_err(|error| damaged(MANIFEST, error.to_string()))?;
    text.push(b'\n');
    write_file(&dir.join(MANIFEST), &text)?;
    Ok(manifest)
}

/// Whether an artifact at `dir` has to be moved away.
fn make_room(dir: &Path, replace: bool) -> Result<bool, ArtifactError> {
    if !dir.exists() || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(false);
    }
    let replaceable = open::is_artifact(dir);
    if replaceable && replace { Ok(true) } else { Err(ArtifactError::Occupied { path: dir.to_owned(), replaceable }) }
}

/// Events in neighbour lists, waiting mail or the newest tick, ascending.
fn referred_to(history: &Store) -> Vec<u64> {
    let of = |name| history.get::<u64>(name).unwrap_or_default();
    let mut events: Vec<u64> = History::ARRAYS_OF_EVENTS.into_iter().flat_map(of).copied().collect();
    events.sort_unstable();
    events.dedup();
    events
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    write_atomic(path, bytes).map_err(ArtifactError::io(path))
}

/// A hidden path next to `dir`, on the same file system, with a name of this process.
fn sibling(dir: &Path, what: &str) -> PathBuf {
    let name = dir.file_name().unwrap_or("artifact".as_ref()).to_string_lossy();
    dir.with_file_name(format!(".{name}.{what}-{}", std::process::id()))
}

/// Removes the artifact's own files from `old`, and moves all else that was there to `dir`.
fn carry_over(old: &Path, dir: &Path) -> io::Result<()> {
    let own = [MANIFEST, SPEC, WEIGHTS, HISTORY, IDS, FEATURES];
    for entry in fs::read_dir(old)? {
        let name = entry?.file_name();
        if own.iter().any(|own| name == *own) {
            fs::remove_file(old.join(&name))?;
        } else {
            fs::rename(old.join(&name), dir.join(&name))?;
        }
    }
    fs::remove_dir(old)
}

/// Moves `fresh` to `dir`. An existing artifact is moved away first, since a folder cannot be renamed onto a folder
/// with content.
fn put_in_place(fresh: &Path, dir: &Path, replaces: bool) -> io::Result<()> {
    if replaces {
        let old = sibling(dir, "replaced");
        fs::rename(dir, &old)?;
        if let Err(error) = fs::rename(fresh, dir) {
            fs::rename(&old, dir)?;
            return Err(error);
        }
        carry_over(&old, dir)?;
    } else {
        fs::rename(fresh, dir)?;
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
