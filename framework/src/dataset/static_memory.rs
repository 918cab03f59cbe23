//! Static memory: a vector for each node, learned once from the training events and stored in a separate file next to
//! a prepared set.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tempograph_kernels::Rows;

use crate::storage::column::Column;
use crate::{Dataset, EventLog, Store, StoreError, Table, sha256_hex};

/// The version of the form that is written and read.
const VERSION: u64 = 1;
const FORMAT: &str = "tempograph-static-memory";
/// The name of the array, and of the metadata text that describes its origin.
const VECTORS: &str = "static";
const ORIGIN: &str = "origin";

/// A vector for each node of a dataset, `[N, S]`, and where it comes from.
///
/// The file is a [`Store`]: the array `static` `[N, S]` and the metadata text `origin`, a [`StaticOrigin`] in JSON. It
/// does not change the set's own node features.
#[derive(Clone, Debug)]
pub struct StaticMemory {
    /// `[N, S]`; zeros for nodes without training events.
    pub vectors: Table,
    /// What they were learned from, and how.
    pub origin: StaticOrigin,
}

/// Where static memory comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticOrigin {
    /// Always `tempograph-static-memory`.
    pub format: String,
    /// Version of the form; a reader refuses another.
    pub version: u64,
    /// SHA-256 of the vectors, in hex.
    pub vectors_sha256: String,
    /// The dataset.
    pub dataset: String,
    /// Its checksum.
    pub dataset_sha256: String,
    /// Training events it was learned from.
    pub events: usize,
    /// SHA-256 of those events' sources, destinations and times: the same split of the same events has the same.
    pub events_sha256: String,
    /// Seed of initial vectors, negatives and order.
    pub seed: u64,
    /// Settings it was learned with, as TOML.
    pub spec: String,
    /// Version of the program that wrote it.
    pub tempograph: String,
}

/// Why static memory cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum StaticMemoryError {
    /// The file is no readable store, or has not the array.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is something else, of another version, or changed since it was written.
    #[error("{}: {fact}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with its values.
        fact: String,
    },
    /// It was learned from another dataset.
    #[error(
        "the static memory was learned from the dataset `{}` with the SHA-256 {}, but this is `{name}` with {sha256}",
        origin.dataset, origin.dataset_sha256
    )]
    OtherDataset {
        /// Where it comes from.
        origin: Box<StaticOrigin>,
        /// The current dataset.
        name: String,
        /// Its checksum.
        sha256: String,
    },
    /// It was learned from other events than those trained on: it may know events the model is evaluated on.
    #[error(
        "the static memory was learned from {} events of `{}`, and they are not the {events} training events of this split: it may know \
         events the model is evaluated on",
        origin.events, origin.dataset
    )]
    OtherSplit {
        /// Where it comes from.
        origin: Box<StaticOrigin>,
        /// Training events of the current split.
        events: usize,
    },
}

impl StaticOrigin {
    /// The origin of vectors learned from the events `train` of `set`, without the checksum of the vectors.
    pub fn new(set: &Dataset, train: Range<usize>, seed: u64, spec: String) -> StaticOrigin {
        StaticOrigin {
            format: FORMAT.into(),
            version: VERSION,
            vectors_sha256: String::new(),
            dataset: set.name.clone(),
            dataset_sha256: set.checksum.clone(),
            events: train.len(),
            events_sha256: events_sha256(&set.log, train),
            seed,
            spec,
            tempograph: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

impl StaticMemory {
    /// Vectors with their origin; sets the origin's checksum.
    pub fn new(vectors: Table, origin: StaticOrigin) -> StaticMemory {
        let vectors_sha256 = sha256_hex([bytemuck::cast_slice(vectors.values())]);
        StaticMemory { vectors, origin: StaticOrigin { vectors_sha256, ..origin } }
    }

    /// Writes the file, completely or not at all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        let mut store = Store::default();
        store.put(VECTORS, [self.vectors.rows(), self.vectors.width()], self.vectors.values().to_vec());
        let origin = serde_json::to_string(&self.origin).expect("names and numbers have a JSON form");
        store.set_metadata(ORIGIN, origin);
        store.write(path)
    }

    /// Maps the file and checks that the vectors are unchanged since they were written. [`check`](Self::check) checks
    /// whether they may be used.
    ///
    /// # Errors
    /// [`StaticMemoryError::Store`] or [`StaticMemoryError::Damaged`].
    pub fn read(path: &Path) -> Result<StaticMemory, StaticMemoryError> {
        let damaged = |fact: String| StaticMemoryError::Damaged { path: path.to_owned(), fact };
        let io = |source| StoreError::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: a store is written to a temporary file and renamed; the file itself never changes.
        let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(io)?);
        let (header, facts) =
            SafeTensors::read_metadata(&map).map_err(|source| StoreError::Format { path: path.into(), source })?;
        let note = facts
            .metadata()
            .as_ref()
            .and_then(|notes| notes.get(ORIGIN))
            .ok_or_else(|| damaged("it does not say where it comes from: no static memory".into()))?;
        let stamp: serde_json::Value = serde_json::from_str(note).map_err(|error| damaged(error.to_string()))?;
        if (stamp["format"].as_str(), stamp["version"].as_u64()) != (Some(FORMAT), Some(VERSION)) {
            let fact =
                format!("form {} version {}, not `{FORMAT}` version {VERSION}", stamp["format"], stamp["version"]);
            return Err(damaged(format!("{fact}; learn it again")));
        }
        let origin: StaticOrigin = serde_json::from_value(stamp).map_err(|error| damaged(error.to_string()))?;
        let missing = || StoreError::Array { name: VECTORS.into(), problem: "is missing".into() };
        let array = facts.info(VECTORS).ok_or_else(missing)?;
        let (Dtype::F32, &[_, width]) = (array.dtype, &array.shape[..]) else {
            return Err(damaged(format!(
                "array `{VECTORS}` is {} {:?}, not f32 [nodes, width]",
                array.dtype, array.shape
            )));
        };
        let (start, end) = array.data_offsets;
        let values = Column::<f32>::mapped(map, 8 + header + start..8 + header + end);
        let values = values.ok_or_else(|| damaged(format!("array `{VECTORS}` is not aligned")))?;
        let found = sha256_hex([bytemuck::cast_slice::<f32, u8>(&values)]);
        if found != origin.vectors_sha256 {
            return Err(damaged(format!(
                "the vectors have the SHA-256 {found}, but their origin says {}",
                origin.vectors_sha256
            )));
        }
        let vectors = Table::from_column(values, width).map_err(|error| damaged(error.to_string()))?;
        Ok(StaticMemory { vectors, origin })
    }

    /// Checks that a model trained on the events `train` of `set` may read it: only if it was learned from exactly
    /// these.
    ///
    /// # Errors
    /// [`StaticMemoryError::OtherDataset`] or [`StaticMemoryError::OtherSplit`].
    pub fn check(&self, set: &Dataset, train: Range<usize>) -> Result<(), StaticMemoryError> {
        let origin = || Box::new(self.origin.clone());
        if self.origin.dataset_sha256 != set.checksum || self.vectors.rows() != set.nodes {
            return Err(StaticMemoryError::OtherDataset {
                origin: origin(),
                name: set.name.clone(),
                sha256: set.checksum.clone(),
            });
        }
        let events = train.len();
        if self.origin.events != events || self.origin.events_sha256 != events_sha256(&set.log, train) {
            return Err(StaticMemoryError::OtherSplit { origin: origin(), events });
        }
        Ok(())
    }
}

/// SHA-256 of the events' sources, destinations and times, in hex.
fn events_sha256(log: &EventLog, range: Range<usize>) -> String {
    let [src, dst] = [log.src(), log.dst()].map(|nodes| bytemuck::cast_slice(&nodes[range.clone()]));
    sha256_hex([src, dst, bytemuck::cast_slice(&log.time()[range.clone()])])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(set: &Dataset, train: Range<usize>) -> StaticMemory {
        let vectors = Table::new((0..3 * set.nodes).map(|i| i as f32).collect(), 3).unwrap();
        StaticMemory::new(vectors, StaticOrigin::new(set, train, 7, "seed = 7\n".into()))
    }

    fn stream(events: usize) -> Dataset {
        Dataset::from_spec(&format!("synthetic:events={events},users=6,items=4")).unwrap()
    }

    #[test]
    fn written_vectors_are_read_back_for_the_same_split_only() {
        let (folder, set) = (tempfile::tempdir().unwrap(), stream(60));
        let path = folder.path().join("static.safetensors");
        let memory = learned(&set, 0..40);
        memory.write(&path).unwrap();
        let read = StaticMemory::read(&path).unwrap();
        assert_eq!((read.vectors.values(), &read.origin), (memory.vectors.values(), &memory.origin));
        read.check(&set, 0..40).unwrap();
        for other in [0..41, 0..39, 1..41] {
            let refused = read.check(&set, other.clone()).unwrap_err();
            assert!(matches!(refused, StaticMemoryError::OtherSplit { .. }), "{other:?}: {refused}");
        }
        let refused = read.check(&stream(61), 0..40).unwrap_err();
        assert!(matches!(refused, StaticMemoryError::OtherDataset { .. }), "{refused}");
    }

    #[test]
    fn a_file_that_was_changed_or_is_something_else_is_refused() {
        let (folder, set) = (tempfile::tempdir().unwrap(), stream(60));
        let path = folder.path().join("static.safetensors");
        learned(&set, 0..40).write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let refused = StaticMemory::read(&path).unwrap_err().to_string();
        assert!(refused.contains("SHA-256"), "{refused}");
        std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        assert!(matches!(StaticMemory::read(&path), Err(StaticMemoryError::Store(_))));
        let mut other = Store::default();
        other.put(VECTORS, [1, 1], vec![0.0f32]);
        other.write(&path).unwrap();
        let refused = StaticMemory::read(&path).unwrap_err().to_string();
        assert!(refused.contains("no static memory"), "{refused}");
    }
}
