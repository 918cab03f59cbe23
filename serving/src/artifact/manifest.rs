//! The manifest of an artifact.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempograph_framework::{Sides, StoreError, TimeUnit};
use tempograph_models::{FeatureWidths, Program};

/// File name of the manifest.
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const WEIGHTS: &str = "weights.safetensors";
pub(crate) const HISTORY: &str = "history.safetensors";
pub(crate) const FEATURES: &str = "features.safetensors";
pub(crate) const IDS: &str = "ids.safetensors";
pub(crate) const SPEC: &str = "spec.toml";

/// The value of `format`.
pub(crate) const FORMAT: &str = "tempograph-artifact";
/// The version of the form that is written: 2 says what the past is.
pub(crate) const VERSION: u64 = 2;
/// The oldest version that is read.
pub(crate) const OLDEST: u64 = 1;

/// `manifest.json`: the content and the origin of an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `tempograph-artifact`.
    pub format: String,
    /// Version of the form; other versions are refused.
    pub version: u64,
    /// Version of the program that wrote it.
    pub tempograph: String,
    /// The kind of model.
    pub model: String,
    /// Events a batch in training. A replay in batches of this size gives the state of training.
    pub batch: usize,
    /// Number of events that the history has seen.
    pub log_position: u64,
    /// Time of the newest of them, in ticks.
    pub newest: Option<i64>,
    /// A hash of the ids and times of these events, in order, by which a log of record is known to go on from them; nothing in
    /// artifacts that were written before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<String>,
    /// What a tick is.
    pub time_unit: TimeUnit,
    /// The dataset that the model was trained on.
    pub dataset: DatasetFacts,
    /// Number of nodes in the history.
    pub nodes: usize,
    /// One set of nodes, or the sources and destinations of the dataset.
    pub sides: Sides,
    /// Whether the ids of the nodes are text. Where they are not, they are whole numbers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text_ids: bool,
    /// Widths of the model.
    pub widths: Widths,
    /// Size and checksum of every other file of the folder.
    pub files: BTreeMap<String, FileFacts>,
}

/// The dataset of an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFacts {
    /// Its name.
    pub name: String,
    /// Its checksum.
    pub sha256: String,
}

/// Widths of a model and of the features it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Widths {
    /// Memory `D`.
    pub memory: usize,
    /// Time encoding `T`.
    pub time: usize,
    /// Embedding `O`, as the decoder maps it.
    pub embedding: usize,
    /// Edge features `E`, 0 for none.
    pub edge: usize,
    /// Node features `F`, 0 for none.
    pub node: usize,
    /// Static memory `S`, 0 for none.
    #[serde(rename = "static", default, skip_serializing_if = "is_none")]
    pub static_memory: usize,
}

fn is_none(width: &usize) -> bool {
    *width == 0
}

impl Widths {
    /// The widths of a program.
    pub(crate) fn of(program: &Program) -> Widths {
        let FeatureWidths { edge, node } = program.inputs().features;
        Widths {
            memory: program.needs().memory,
            time: program.time_width(),
            embedding: program.head().width(),
            edge,
            node,
            static_memory: program.static_memory().map_or(0, |part| part.width),
        }
    }

    /// Whether the model reads constant rows, so that there is a file of features.
    pub(crate) fn reads_features(&self) -> bool {
        self.edge + self.node + self.static_memory > 0
    }
}

/// The size and checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex.
    pub sha256: String,
}

impl Manifest {
    /// A name for the weights. Other weights have another name.
    pub fn model_version(&self) -> String {
        let sha256 = self.files.get(WEIGHTS).map_or("", |file| file.sha256.as_str());
        format!("{}-{}", self.model, sha256.get(..12).unwrap_or(sha256))
    }
}

impl FileFacts {
    /// Reads the whole file.
    pub(crate) fn of(path: &Path) -> io::Result<FileFacts> {
        let mut hasher = Sha256::new();
        let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
        Ok(FileFacts { bytes, sha256: hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect() })
    }
}

/// Why an artifact cannot be written or opened.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The system's error.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The folder exists already.
    #[error("{} is there already{}", path.display(), if *replaceable { "; it is left alone unless it is to be replaced" } else { " and is not an artifact; it is left alone" })]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// Whether it is an artifact, which may be replaced on request.
        replaceable: bool,
    },
    /// The folder holds something else.
    #[error("{} is not an artifact: it has no {MANIFEST}", path.display())]
    NotArtifact {
        /// The folder.
        path: PathBuf,
    },
    /// Written in another version of the form.
    #[error("{}: format version {found} is not one of the versions {OLDEST} to {VERSION} that this program reads; export the run again", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// The version in the manifest.
        found: u64,
    },
    /// The content of a file is not what it should be.
    #[error("{}: {fact}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault, with its values.
        fact: String,
    },
    /// A file of arrays cannot be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An array does not fit the model.
    #[error("{}: {error}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// The array and its fault.
        error: StoreError,
    },
    /// Model, history and dataset do not belong together.
    #[error("the artifact cannot be made: {fact}")]
    Inconsistent {
        /// The contradiction, with its values.
        fact: String,
    },
}

impl ArtifactError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
        let path = path.to_owned();
        move |error| ArtifactError::Io { path, error }
    }

    pub(crate) fn array(path: &Path) -> impl FnOnce(StoreError) -> ArtifactError {
        let path = path.to_owned();
        move |error| ArtifactError::Array { path, error }
    }
}
