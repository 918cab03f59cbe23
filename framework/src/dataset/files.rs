//! The prepared form on disk. [`Dataset::write`] describes it byte by byte.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use memmap2::Mmap;
use safetensors::tensor::{Metadata, SafeTensors};
use safetensors::{Dtype, SafeTensorError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempograph_kernels::Rows;
use tempograph_kernels::cpu::first_not_finite;

use crate::dataset::idmap::TextIds;
use crate::dataset::{Dataset, DatasetError, Extras, IdMap, Sides, Table, TimeUnit};
use crate::log::Columns;
use crate::storage::column::Column;
use crate::storage::shared;
use crate::{EventLog, NodeId, Timestamp};

pub(super) const MANIFEST: &str = "dataset.json";
pub(super) const VERSION: u64 = 1;
const COLUMNS: &str = "columns.safetensors";
const FORMAT: &str = "tempograph-dataset";

/// `dataset.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    version: u64,
    name: String,
    events: usize,
    nodes: usize,
    sides: Sides,
    time_unit: TimeUnit,
    sha256: String,
    source: String,
    notices: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
}

/// The part of the manifest that every version has.
#[derive(Deserialize)]
struct Stamp {
    format: String,
    version: u64,
}

/// One array of the columns file; its values are written after the header.
struct Array<'a> {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    values: Values<'a>,
}

enum Values<'a> {
    Flat(&'a [u8]),
    Rows(&'a dyn Rows),
}

impl<'a> Array<'a> {
    fn flat<T: bytemuck::Pod>(name: &'static str, dtype: Dtype, values: &'a [T]) -> Self {
        Self { name, dtype, shape: vec![values.len()], values: Values::Flat(bytemuck::cast_slice(values)) }
    }

    fn rows(name: &'static str, rows: usize, values: &'a dyn Rows) -> Self {
        Self { name, dtype: Dtype::F32, shape: vec![rows, values.width()], values: Values::Rows(values) }
    }

    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.values {
            Values::Flat(bytes) => out.write_all(bytes),
            Values::Rows(rows) => {
                (0..self.shape[0] as u64).try_for_each(|id| out.write_all(bytemuck::cast_slice(rows.row(id))))
            }
        }
    }
}

/// The arrays in the order of the file: eight-byte numbers first, so that every array is aligned.
fn arrays(set: &Dataset) -> Vec<Array<'_>> {
    let mut arrays = vec![
        Array::flat("time", Dtype::I64, set.log.time()),
        Array::flat("node_ids", Dtype::U64, set.ids.external_ids()),
    ];
    arrays.extend(set.extras.end().map(|end| Array::flat("end", Dtype::I64, end)));
    arrays.extend(set.ids.text().map(|text| Array::flat("node_name_ends", Dtype::U64, &text.ends)));
    arrays.extend([
        Array::flat("src", Dtype::U32, set.log.src()),
        Array::flat("dst", Dtype::U32, set.log.dst()),
        Array::flat("label", Dtype::F32, set.log.label()),
    ]);
    arrays.extend(set.log.features().map(|features| Array::rows("edge_features", set.log.len(), features.as_ref())));
    arrays.extend(set.node_features.as_ref().map(|features| Array::rows("node_features", set.nodes, features)));
    arrays.extend(set.extras.targets.as_ref().map(|targets| Array::rows("targets", set.log.len(), targets)));
    arrays.extend(set.ids.text().map(|text| Array::flat("node_names", Dtype::U8, &text.bytes)));
    arrays
}

fn header(arrays: &[Array<'_>]) -> Vec<u8> {
    let mut start = 0;
    let entries: Vec<String> = arrays
        .iter()
        .map(|array| {
            let end = start + array.bytes();
            let entry = format!(
                r#""{}":{{"dtype":"{}","shape":{:?},"data_offsets":[{start},{end}]}}"#,
                array.name, array.dtype, array.shape
            );
            start = end;
            entry
        })
        .collect();
    let mut header = format!("{{{}}}", entries.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}

fn write_columns(set: &Dataset, out: &mut dyn Write) -> io::Result<()> {
    let arrays = arrays(set);
    let header = header(&arrays);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    arrays.iter().try_for_each(|array| array.write(out))
}

/// SHA-256 of the columns file that [`write`] would make, in hex.
pub(super) fn checksum(set: &Dataset) -> String {
    let mut out = BufWriter::with_capacity(1 << 16, Sha256::new());
    write_columns(set, &mut out).and_then(|()| out.flush()).expect("hashing does no input or output");
    out.get_ref().clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn write(set: &Dataset, dir: &Path) -> Result<(), DatasetError> {
    let replaces = is_prepared(dir);
    let empty = || fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if dir.exists() && !replaces && !empty() {
        return Err(DatasetError::Occupied { path: dir.to_owned() });
    }
    let fresh = sibling(dir, "partial");
    let result = write_folder(set, &fresh).and_then(|()| put_in_place(&fresh, dir, replaces));
    if result.is_err() {
        // The first error is the one to report; the partial folder is only removed.
        let _ = fs::remove_dir_all(&fresh);
    }
    result
}

fn is_prepared(dir: &Path) -> bool {
    let stamp = fs::read(dir.join(MANIFEST)).ok().and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
    stamp.is_some_and(|stamp| stamp.format == FORMAT)
}

/// A hidden path next to `dir`, on the same file system and unique to this process.
fn sibling(dir: &Path, what: &str) -> PathBuf {
    let name = dir.file_name().unwrap_or("dataset".as_ref()).to_string_lossy();
    dir.with_file_name(format!(".{name}.{what}-{}", std::process::id()))
}

fn manifest(set: &Dataset) -> Manifest {
    Manifest {
        format: FORMAT.into(),
        version: VERSION,
        name: set.name.clone(),
        events: set.log.len(),
        nodes: set.nodes,
        sides: set.sides,
        time_unit: set.time_unit.clone(),
        sha256: set.checksum.clone(),
        source: set.source.clone(),
        notices: set.notices.clone(),
        features: set.extras.features.clone(),
        classes: set.extras.classes.clone(),
        targets: set.extras.target_names.clone(),
    }
}

fn write_folder(set: &Dataset, dir: &Path) -> Result<(), DatasetError> {
    let manifest = manifest(set);
    fs::create_dir_all(dir).map_err(|error| DatasetError::Io { path: dir.to_owned(), error })?;
    write_file(&dir.join(COLUMNS), |out| write_columns(set, out))?;
    write_file(&dir.join(MANIFEST), |out| {
        serde_json::to_writer_pretty(&mut *out, &manifest)?;
        out.write_all(b"\n")
    })?;
    sync_folder(dir)
}

fn write_file(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), DatasetError> {
    let write = || {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        fill(&mut out)?;
        out.into_inner()?.sync_all()
    };
    write().map_err(|error| DatasetError::Io { path: path.to_owned(), error })
}

fn sync_folder(dir: &Path) -> Result<(), DatasetError> {
    File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| DatasetError::Io { path: dir.to_owned(), error })
}

/// Moves `fresh` to `dir`. An existing set is moved away first: a folder cannot be renamed onto a full one.
fn put_in_place(fresh: &Path, dir: &Path, replaces: bool) -> Result<(), DatasetError> {
    let failed = |error| DatasetError::Io { path: dir.to_owned(), error };
    if replaces {
        let old = sibling(dir, "replaced");
        fs::rename(dir, &old).map_err(failed)?;
        if let Err(error) = fs::rename(fresh, dir) {
            fs::rename(&old, dir).map_err(failed)?;
            return Err(failed(error));
        }
        fs::remove_dir_all(&old).map_err(failed)?;
    } else {
        fs::rename(fresh, dir).map_err(failed)?;
    }
    match dir.parent() {
        Some(parent) if parent != Path::new("") => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

pub(super) fn open(dir: &Path) -> Result<Dataset, DatasetError> {
    let manifest = read_manifest(dir)?;
    let path = dir.join(COLUMNS);
    let file = File::open(&path).map_err(|error| DatasetError::Io { path: path.clone(), error })?;
    of_columns(manifest, ColumnsFile::map(path, &file)?)
}

/// Writes the columns to a file without a name. Also returns its address and the manifest, a line each.
pub(super) fn share(set: &Dataset) -> io::Result<(File, String)> {
    let file = shared::unnamed(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        write_columns(set, &mut out)?;
        out.flush()
    })?;
    let descriptor = format!("{}\n{}", shared::address(&file)?, serde_json::to_string(&manifest(set))?);
    Ok((file, descriptor))
}

/// Maps what was [shared](share).
pub(super) fn open_shared(descriptor: &str) -> Result<Dataset, DatasetError> {
    let (address, manifest) = descriptor.split_once('\n').unwrap_or((descriptor, ""));
    let path = PathBuf::from(address);
    let manifest = serde_json::from_str(manifest)
        .map_err(|error| DatasetError::Damaged { path: path.clone(), fact: error.to_string() })?;
    let file = shared::open(address).map_err(|error| DatasetError::Io { path: path.clone(), error })?;
    of_columns(manifest, ColumnsFile::map(path, &file)?)
}

fn of_columns(manifest: Manifest, columns: ColumnsFile) -> Result<Dataset, DatasetError> {
    let (events, nodes) = (manifest.events, manifest.nodes);
    let features = columns.table("edge_features", events)?.map(|table| Arc::new(table) as Arc<dyn Rows>);
    let log = EventLog::from_columns(Columns {
        src: columns.column::<NodeId>("src", Dtype::U32, events)?,
        dst: columns.column::<NodeId>("dst", Dtype::U32, events)?,
        time: columns.column::<Timestamp>("time", Dtype::I64, events)?,
        label: columns.column("label", Dtype::F32, events)?,
        features,
        destinations: OnceLock::new(),
        by_node: OnceLock::new(),
    })
    .map_err(|error| columns.damaged(error.to_string()))?;
    let extras = Extras {
        features: manifest.features,
        classes: manifest.classes,
        target_names: manifest.targets,
        targets: columns.table("targets", events)?,
        end: columns.optional("end", Dtype::I64, Some(events))?,
    };
    let mut ids = IdMap::from_column(columns.column("node_ids", Dtype::U64, nodes)?, manifest.sides);
    if let Some(ends) = columns.optional("node_name_ends", Dtype::U64, Some(nodes))? {
        let bytes = columns.optional("node_names", Dtype::U8, None)?;
        let bytes = bytes.ok_or_else(|| columns.damaged("no array `node_names`".into()))?;
        ids = ids.with_text(TextIds { bytes, ends }).map_err(|fact| columns.damaged(fact))?;
    }
    let set = Dataset {
        log,
        nodes,
        node_features: columns.table("node_features", nodes)?,
        ids,
        extras,
        name: manifest.name,
        sides: manifest.sides,
        time_unit: manifest.time_unit,
        source: manifest.source,
        notices: manifest.notices,
        checksum: manifest.sha256,
    };
    let extras = set.extras.check(events, set.edge_width());
    extras.and_then(|()| set.check_nodes()).map_err(|fact| columns.damaged(fact))?;
    Ok(set)
}

fn read_manifest(dir: &Path) -> Result<Manifest, DatasetError> {
    let path = dir.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if dir.exists() => DatasetError::NotPrepared { path: dir.to_owned() },
        io::ErrorKind::NotFound => DatasetError::Io { path: dir.to_owned(), error },
        _ => DatasetError::Io { path: path.clone(), error },
    })?;
    let damaged = |fact: String| DatasetError::Damaged { path: path.clone(), fact };
    let stamp: Stamp = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if stamp.format != FORMAT {
        return Err(damaged(format!("`format` is `{}`, not `{FORMAT}`", stamp.format)));
    }
    if stamp.version != VERSION {
        return Err(DatasetError::Version { path, found: stamp.version });
    }
    serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))
}

/// The mapped columns file and its parsed header.
struct ColumnsFile {
    path: PathBuf,
    map: Arc<Mmap>,
    metadata: Metadata,
    data_start: usize,
}

impl ColumnsFile {
    fn map(path: PathBuf, file: &File) -> Result<Self, DatasetError> {
        // SAFETY: `write` never changes a columns file in place: it renames a whole new folder over the old one.
        // `share` gives one that is complete.
        let map = unsafe { Mmap::map(file) }.map_err(|error| DatasetError::Io { path: path.clone(), error })?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|error| DatasetError::Damaged {
            path: path.clone(),
            fact: match error {
                SafeTensorError::MetadataIncompleteBuffer => {
                    format!("{} bytes are not what the header promises: truncated?", map.len())
                }
                other => other.to_string(),
            },
        })?;
        Ok(Self { path, map: Arc::new(map), metadata, data_start: 8 + header })
    }

    fn damaged(&self, fact: String) -> DatasetError {
        DatasetError::Damaged { path: self.path.clone(), fact }
    }

    fn column<T: bytemuck::Pod>(&self, name: &str, dtype: Dtype, len: usize) -> Result<Column<T>, DatasetError> {
        let bytes = self
            .find(name, dtype, |shape| shape == [len])?
            .ok_or_else(|| self.damaged(format!("no array `{name}`")))?;
        self.slice(name, bytes)
    }

    /// A column that may be absent, of any length where none is given.
    fn optional<T: bytemuck::Pod>(
        &self,
        name: &str,
        dtype: Dtype,
        len: Option<usize>,
    ) -> Result<Option<Column<T>>, DatasetError> {
        let fits = |shape: &[usize]| shape.len() == 1 && len.is_none_or(|len| shape[0] == len);
        self.find(name, dtype, fits)?.map(|bytes| self.slice(name, bytes)).transpose()
    }

    fn table(&self, name: &str, rows: usize) -> Result<Option<Table>, DatasetError> {
        let Some(bytes) = self.find(name, Dtype::F32, |shape| shape.len() == 2 && shape[0] == rows && shape[1] > 0)?
        else {
            return Ok(None);
        };
        let width = bytes.len() / 4 / rows.max(1);
        let values: Column<f32> = self.slice(name, bytes)?;
        if let Some(at) = first_not_finite(&values) {
            let (row, column, value) = (at / width, at % width, values[at]);
            return Err(self.damaged(format!(
                "array `{name}`, row {row}, column {column} is {value}; prepare the set again from its source"
            )));
        }
        Table::from_column(values, width).map(Some).map_err(|error| self.damaged(error.to_string()))
    }

    fn find(
        &self,
        name: &str,
        dtype: Dtype,
        fits: impl Fn(&[usize]) -> bool,
    ) -> Result<Option<Range<usize>>, DatasetError> {
        let Some(info) = self.metadata.info(name) else { return Ok(None) };
        if info.dtype != dtype || !fits(&info.shape) {
            return Err(self.damaged(format!(
                "array `{name}` is {} {:?}, which is not what the manifest promises",
                info.dtype, info.shape
            )));
        }
        let (start, end) = info.data_offsets;
        Ok(Some(self.data_start + start..self.data_start + end))
    }

    fn slice<T: bytemuck::Pod>(&self, name: &str, bytes: Range<usize>) -> Result<Column<T>, DatasetError> {
        Column::mapped(Arc::clone(&self.map), bytes)
            .ok_or_else(|| self.damaged(format!("array `{name}` is not aligned")))
    }
}
