//! Opens an artifact: verifies every file, or returns what is wrong with it.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use tempograph_framework::{Features, History, Sides, SliceModel, Store, StoreError, Table};
use tempograph_kernels::Rows;
use tempograph_models::{FeatureWidths, Program, Registry, SliceProgram};

use crate::artifact::export::SpecFile;
use crate::artifact::features::{EdgeStore, NodeFeatures};
use crate::artifact::manifest::{
    ArtifactError, FEATURES, FORMAT, FileFacts, HISTORY, IDS, MANIFEST, Manifest, OLDEST, SPEC, VERSION, WEIGHTS,
    Widths,
};
use crate::artifact::names::Names;
use crate::artifact::past::PastHash;

/// The content of an artifact, ready to be served.
pub(crate) struct Opened {
    pub manifest: Manifest,
    pub model: SliceProgram,
    pub history: History,
    pub names: Names,
    pub edges: Option<Arc<EdgeStore>>,
}

/// The part of the manifest that all versions have.
#[derive(Deserialize)]
struct Stamp {
    format: String,
    version: u64,
}

/// Whether `dir` holds an artifact of any version.
pub(crate) fn is_artifact(dir: &Path) -> bool {
    let stamp = fs::read(dir.join(MANIFEST)).ok().and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
    stamp.is_some_and(|stamp| stamp.format == FORMAT)
}

/// Checks every file against the manifest, then reads them.
pub(crate) fn open(dir: &Path) -> Result<Opened, ArtifactError> {
    let manifest = read_manifest(dir)?;
    verify_files(dir, &manifest)?;
    let model = read_model(dir, &manifest)?;
    let path = dir.join(FEATURES);
    let mut features = if manifest.widths.reads_features() { read_finite(&path)? } else { Store::default() };
    let edges = read_edges(&mut features, &manifest).map_err(ArtifactError::array(&path))?;
    let by_node = |features: &mut Store, name, width| {
        read_nodes(features, name, width, &manifest).map_err(ArtifactError::array(&path))
    };
    let nodes = by_node(&mut features, "node", manifest.widths.node)?;
    let static_memory = by_node(&mut features, "static", manifest.widths.static_memory)?;
    let features = Features { edges: edges.clone().map(|edges| edges as Arc<dyn Rows>), nodes, static_memory };
    let path = dir.join(HISTORY);
    let stored = read_finite(&path)?;
    edges.iter().try_for_each(|edges| check_events(&stored, edges)).map_err(ArtifactError::array(&path))?;
    let history = History::from_store(stored, model.needs(), features).map_err(ArtifactError::array(&path))?;
    let newest = history.newest().map(|time| time.0);
    if newest != manifest.newest {
        return Err(damaged(
            &path,
            format!("the newest event is at {newest:?}, but the manifest says {:?}", manifest.newest),
        ));
    }
    if (history.seen(), history.nodes()) != (manifest.log_position, manifest.nodes) {
        let found = format!("{} events seen and {} nodes", history.seen(), history.nodes());
        return Err(damaged(
            &path,
            format!("{found}, but the manifest says {} and {}", manifest.log_position, manifest.nodes),
        ));
    }
    let path = dir.join(IDS);
    let names = Names::from_store(Store::read(&path)?, manifest.sides != Sides::OneMode)
        .map_err(ArtifactError::array(&path))?;
    if names.text() != manifest.text_ids {
        let [found, said] = [names.text(), manifest.text_ids].map(|text| if text { "text" } else { "numbers" });
        return Err(damaged(&path, format!("ids that are {found}, but the manifest says {said}")));
    }
    if names.len() != manifest.nodes {
        return Err(damaged(&path, format!("ids of {} nodes, but the manifest says {}", names.len(), manifest.nodes)));
    }
    Ok(Opened { manifest, model, history, names, edges })
}

/// Reads a file of arrays, in which every number is finite.
fn read_finite(path: &Path) -> Result<Store, ArtifactError> {
    let store = Store::read(path)?;
    store.check_finite(path)?;
    Ok(store)
}

fn damaged(path: &Path, fact: String) -> ArtifactError {
    ArtifactError::Damaged { path: path.to_owned(), fact }
}

/// Reads the manifest alone.
pub(crate) fn read_manifest(dir: &Path) -> Result<Manifest, ArtifactError> {
    let path = dir.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if dir.exists() => ArtifactError::NotArtifact { path: dir.to_owned() },
        io::ErrorKind::NotFound => ArtifactError::Io { path: dir.to_owned(), error },
        _ => ArtifactError::Io { path: path.clone(), error },
    })?;
    let stamp: Stamp = serde_json::from_slice(&text).map_err(|error| damaged(&path, error.to_string()))?;
    if stamp.format != FORMAT {
        return Err(damaged(&path, format!("`format` is `{}`, not `{FORMAT}`", stamp.format)));
    }
    if !(OLDEST..=VERSION).contains(&stamp.version) {
        return Err(ArtifactError::Version { path, found: stamp.version });
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| damaged(&path, error.to_string()))?;
    if manifest.time_unit.scale == 0 {
        return Err(damaged(&path, "`time_unit.scale` is 0; it must be at least 1".into()));
    }
    if let Some(past) = manifest.past.as_ref().filter(|past| PastHash::parse(past).is_none()) {
        return Err(damaged(&path, format!("`past` is `{past}`, which is no hash")));
    }
    Registry::current().kind(&manifest.model).map_err(|fact| damaged(&path, fact))?;
    Ok(manifest)
}

/// Verifies that the manifest lists every required file, and their sizes and checksums.
fn verify_files(dir: &Path, manifest: &Manifest) -> Result<(), ArtifactError> {
    let mut names = vec![SPEC, WEIGHTS, HISTORY, IDS];
    if manifest.widths.reads_features() {
        names.push(FEATURES);
    }
    for name in names {
        let path = dir.join(name);
        let stated =
            manifest.files.get(name).ok_or_else(|| damaged(&dir.join(MANIFEST), format!("does not list {name}")))?;
        let size = fs::metadata(&path).map_err(ArtifactError::io(&path))?.len();
        if size != stated.bytes {
            return Err(damaged(&path, format!("has {size} bytes, but the manifest says {}", stated.bytes)));
        }
        let found = FileFacts::of(&path).map_err(ArtifactError::io(&path))?;
        if found.sha256 != stated.sha256 {
            return Err(damaged(
                &path,
                format!("has the SHA-256 {}, but the manifest says {}", found.sha256, stated.sha256),
            ));
        }
    }
    Ok(())
}

fn read_model(dir: &Path, manifest: &Manifest) -> Result<SliceProgram, ArtifactError> {
    let path = dir.join(SPEC);
    let text = fs::read_to_string(&path).map_err(ArtifactError::io(&path))?;
    let SpecFile { model: spec } = toml::from_str(&text).map_err(|error| damaged(&path, error.to_string()))?;
    let widths = FeatureWidths { edge: manifest.widths.edge, node: manifest.widths.node };
    let made = spec.check().and_then(|()| spec.on_slices(widths, 0));
    let mut model = made.map_err(|fact| damaged(&path, fact))?;
    model.program().links().map_err(|fact| damaged(&path, fact))?;
    check_widths(model.program(), manifest).map_err(|fact| damaged(&path, fact))?;
    let path = dir.join(WEIGHTS);
    let values = model.parameters().read(read_finite(&path)?).map_err(ArtifactError::array(&path))?;
    model.parameters_mut().values_mut().copy_from_slice(&values);
    Ok(model)
}

fn check_widths(program: &Program, manifest: &Manifest) -> Result<(), String> {
    let (found, stated) = (Widths::of(program), manifest.widths);
    for (key, found, stated) in [
        ("memory", found.memory, stated.memory),
        ("time", found.time, stated.time),
        ("width", found.embedding, stated.embedding),
        ("static.width", found.static_memory, stated.static_memory),
    ] {
        if found != stated {
            return Err(format!("model.{key} = {found}, but the manifest says {stated}"));
        }
    }
    match spec_kind(program) {
        kind if kind == manifest.model => Ok(()),
        kind => Err(format!("model.kind = \"{kind}\", but the manifest says \"{}\"", manifest.model)),
    }
}

fn spec_kind(program: &Program) -> &'static str {
    program.spec().kind()
}

/// Edge features, where the model reads any.
fn read_edges(store: &mut Store, manifest: &Manifest) -> Result<Option<Arc<EdgeStore>>, StoreError> {
    let width = manifest.widths.edge;
    if width == 0 {
        return Ok(None);
    }
    let (_, events) = store.take::<u64>("edge.event")?;
    let rows = store.take_len::<f32>("edge.row", events.len() * width)?;
    Ok(Some(Arc::new(EdgeStore::new(width, &events, rows, manifest.log_position))))
}

/// Checks that all events that a history refers to have features. Later look-ups then need no check.
fn check_events(history: &Store, edges: &EdgeStore) -> Result<(), StoreError> {
    for name in History::ARRAYS_OF_EVENTS {
        let unknown = history.get::<u64>(name).unwrap_or_default().iter().find(|&&event| !edges.keeps(event));
        if let Some(event) = unknown {
            return Err(StoreError::Array {
                name: name.into(),
                problem: format!("names event {event}, of which no features are stored"),
            });
        }
    }
    Ok(())
}

/// Constant rows by node, where the model reads any: node features or static memory.
fn read_nodes(
    store: &mut Store,
    name: &str,
    width: usize,
    manifest: &Manifest,
) -> Result<Option<Arc<dyn Rows>>, StoreError> {
    if width == 0 {
        return Ok(None);
    }
    let rows = store.take_len::<f32>(name, manifest.nodes * width)?;
    let table =
        Table::new(rows, width).map_err(|error| StoreError::Array { name: name.into(), problem: error.to_string() })?;
    Ok(Some(Arc::new(NodeFeatures::new(table))))
}
