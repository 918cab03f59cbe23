//! A dataset: an event log with facts about its nodes, its times and its source.
mod extras;
mod files;
mod idmap;
pub(crate) mod inductive;
pub(crate) mod prepare;
mod split;
pub(crate) mod static_memory;
pub(crate) mod synthetic;
mod table;
mod units;

use std::path::{Path, PathBuf};

use tempograph_kernels::Rows;

pub use extras::Extras;
pub use idmap::{IdMap, UnknownId, UnknownName};
pub use split::{Split, SplitError};
pub use table::{Table, TableError};
pub use units::{Side, Sides, TimeUnit};

use crate::dataset::synthetic::{SyntheticError, SyntheticSpec};
use crate::{EventLog, NodeId};

/// An event log, its nodes, and what the numbers mean.
///
/// In memory after [`prepare`](crate::prepare) or generation, memory-mapped after [`open`](Dataset::open); a clone
/// shares the columns. The files are described in [`write`](Dataset::write).
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The set's name in reports.
    pub name: String,
    /// The events.
    pub log: EventLog,
    /// Nodes, `N`: every node number is below it.
    pub nodes: usize,
    /// One set of nodes, or sources and destinations.
    pub sides: Sides,
    /// What a tick is.
    pub time_unit: TimeUnit,
    /// Constant features of the nodes, `[N, F]`, where there are any.
    pub node_features: Option<Table>,
    /// The user's own ids.
    pub ids: IdMap,
    /// The source it was read from, as the user gave it.
    pub source: String,
    /// Decisions and changes made while reading, in sentences.
    pub notices: Vec<String>,
    /// What else is known of the events, for tasks other than links.
    pub extras: Extras,
    /// SHA-256 of the columns file in hex; equal for equal content wherever it came from.
    pub checksum: String,
}

/// The content of a [`Dataset`] before its checksum is computed.
#[derive(Clone, Debug)]
pub struct DatasetContent {
    /// The set's name in reports.
    pub name: String,
    /// The events.
    pub log: EventLog,
    /// What a tick is.
    pub time_unit: TimeUnit,
    /// Constant features of the nodes, `[N, F]`.
    pub node_features: Option<Table>,
    /// The user's own ids, which also say how many nodes there are and on which sides.
    pub ids: IdMap,
    /// Where it was read from.
    pub source: String,
    /// Decisions and changes made while reading.
    pub notices: Vec<String>,
}

/// A dataset that cannot be opened, checked or written.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The system returned an error.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The folder holds something else.
    #[error(
        "{} is not a prepared dataset (it has no {}): run `tempograph prepare {} --out DIR` and give DIR",
        path.display(), files::MANIFEST, path.display()
    )]
    NotPrepared {
        /// The folder.
        path: PathBuf,
    },
    /// Written in a later format.
    #[error("{}: format version {found} is not the version {} this program reads; prepare the set again", path.display(), files::VERSION)]
    Version {
        /// The manifest.
        path: PathBuf,
        /// The version it names.
        found: u64,
    },
    /// A file does not have the expected content.
    #[error("{}: {fact}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with its values.
        fact: String,
    },
    /// The content differs from what the checksum was computed of.
    #[error(
        "dataset `{name}`: the columns have the SHA-256 {found}, but the manifest says {stated}; prepare the set again"
    )]
    Checksum {
        /// The dataset.
        name: String,
        /// Checksum of what is there.
        found: String,
        /// Checksum in the manifest.
        stated: String,
    },
    /// Content that contradicts itself.
    #[error("dataset `{name}`: {fact}")]
    Inconsistent {
        /// The dataset.
        name: String,
        /// The contradiction, with its values.
        fact: String,
    },
    /// Something other than a prepared dataset is in the way.
    #[error("{} is there already and is not a prepared dataset; it is left alone", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// An invalid spec of a generated stream.
    #[error(transparent)]
    Synthetic(#[from] SyntheticError),
}

impl Dataset {
    /// Builds a dataset: checks that every event's nodes exist and computes the checksum.
    pub fn new(content: DatasetContent) -> Result<Self, DatasetError> {
        Self::with_extras(content, Extras::default())
    }

    /// The same with what else is known of the events.
    pub fn with_extras(content: DatasetContent, extras: Extras) -> Result<Self, DatasetError> {
        let DatasetContent { name, log, time_unit, node_features, ids, source, notices } = content;
        let (nodes, sides) = (ids.len(), ids.sides());
        let checksum = String::new();
        let mut set =
            Self { name, log, nodes, sides, time_unit, node_features, ids, source, notices, extras, checksum };
        set.extras
            .check(set.log.len(), set.edge_width())
            .and_then(|()| set.check_nodes())
            .map_err(|fact| DatasetError::Inconsistent { name: set.name.clone(), fact })?;
        set.checksum = files::checksum(&set);
        Ok(set)
    }

    /// Maps a prepared dataset. Versions, sizes, the order of the times and the range of the node numbers are checked;
    /// [`verify`](Self::verify) checks every byte.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, DatasetError> {
        files::open(dir.as_ref())
    }

    /// The dataset a spec names: `synthetic:…` is generated, anything else is the folder of a prepared set.
    pub fn from_spec(path: &str) -> Result<Self, DatasetError> {
        match path.strip_prefix("synthetic:") {
            Some(options) => Ok(options.parse::<SyntheticSpec>()?.generate()),
            None => Self::open(path),
        }
    }

    /// Writes the prepared form to the folder `dir`, which appears whole or not at all. A prepared dataset that is
    /// there already is replaced.
    ///
    /// The folder holds two files.
    ///
    /// `columns.safetensors` is in the [safetensors](https://github.com/huggingface/safetensors) format: eight bytes
    /// with the length of a JSON header, the header (padded with spaces to a multiple of eight), then these
    /// little-endian arrays back to back in this order:
    ///
    /// | name | type | shape | |
    /// |---|---|---|---|
    /// | `time` | I64 | `[events]` | ticks, never decreasing; equal times keep the order of their events |
    /// | `node_ids` | U64 | `[N]` | the user's own id of each node, ascending within each side |
    /// | `src` | U32 | `[events]` | node numbers; in a bipartite set below the number of sources |
    /// | `dst` | U32 | `[events]` | node numbers; in a bipartite set the others |
    /// | `label` | F32 | `[events]` | 0 where the source has no labels |
    /// | `edge_features` | F32 | `[events, E]` | absent when there are none |
    /// | `node_features` | F32 | `[N, F]` | absent when there are none |
    /// | `end` | I64 | `[events]` | ticks at which each event's edge ends; absent when they do not |
    /// | `targets` | F32 | `[events, T]` | numbers to predict of each event; absent when there are none |
    /// | `node_name_ends` | U64 | `[N]` | where each node's id ends in the next; absent when ids are numbers |
    /// | `node_names` | U8 | `[bytes]` | ids that are text, ascending within each side; `node_ids` are then the numbers of the nodes |
    ///
    /// `dataset.json` is the manifest: `format` (always `tempograph-dataset`), `version` (1), `name`, `events`,
    /// `nodes`, `sides` (`"one-mode"` or `{"bipartite": {"sources": n}}`), `time_unit` (`description`, and `scale`:
    /// ticks in one of the source's units), `sha256` of the columns file, `source` and `notices`. Where they are known it
    /// also has `features` and `targets`, the names of the columns of both, and `classes`, the words that the labels 0, 1, 2 stand for.
    pub fn write(&self, dir: impl AsRef<Path>) -> Result<(), DatasetError> {
        files::write(self, dir.as_ref())
    }

    /// Writes the columns to a file that other processes of this machine can [map](Dataset::open_shared) as they would
    /// those of a prepared set. The system removes the file with the last process that has it. The returned text is
    /// its descriptor; the returned file must stay open until all processes have mapped it.
    ///
    /// # Errors
    /// The system's error; [`Unsupported`](std::io::ErrorKind::Unsupported) on systems other than Linux.
    pub fn share(&self) -> std::io::Result<(std::fs::File, String)> {
        files::share(self)
    }

    /// Maps what another process has [shared](Dataset::share), by its descriptor.
    pub fn open_shared(descriptor: &str) -> Result<Self, DatasetError> {
        files::open_shared(descriptor)
    }

    /// Reads every byte of the content and compares its SHA-256 with the stated one.
    pub fn verify(&self) -> Result<(), DatasetError> {
        let found = files::checksum(self);
        if found == self.checksum {
            return Ok(());
        }
        Err(DatasetError::Checksum { name: self.name.clone(), found, stated: self.checksum.clone() })
    }

    /// Width of the events' features, `E`; 0 when there are none.
    pub fn edge_width(&self) -> usize {
        self.log.features().map_or(0, |rows| rows.width())
    }

    /// Width of the nodes' features, `F`; 0 when there are none.
    pub fn node_width(&self) -> usize {
        self.node_features.as_ref().map_or(0, Rows::width)
    }

    /// The first contradiction between the events and the nodes.
    fn check_nodes(&self) -> Result<(), String> {
        let (sources, first_destination) = match self.sides {
            Sides::OneMode => (self.nodes, 0),
            Sides::Bipartite { sources } => (sources, sources),
        };
        let node_rows = self.node_features.as_ref().map_or(self.nodes, Table::rows);
        if node_rows != self.nodes || sources > self.nodes {
            return Err(format!(
                "{} nodes, of them {sources} sources, but {node_rows} rows of node features",
                self.nodes
            ));
        }
        let outside = |column: &[NodeId], range: std::ops::Range<usize>| {
            column.iter().position(|node| !range.contains(&node.index()))
        };
        if let Some(event) = outside(self.log.src(), 0..sources) {
            return Err(format!(
                "event {event} has the source {}, but there are {sources} sources",
                self.log.src()[event]
            ));
        }
        if let Some(event) = outside(self.log.dst(), first_destination..self.nodes) {
            let dst = self.log.dst()[event];
            return Err(format!(
                "event {event} has the destination {dst}, which is not in {first_destination}..{}",
                self.nodes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
