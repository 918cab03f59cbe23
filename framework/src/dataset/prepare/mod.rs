//! Reading other people's files into a [`Dataset`].
//!
//! Each format's reader takes columns of numbers from its files and leaves them in the order of the file; what is common (sorting, dense node
//! numbers, features moving along with their events) then happens once. Nothing is written here: a dataset that is whole is written by
//! [`Dataset::write`].
mod assemble;
mod columns;
mod detect;
mod error;
pub(crate) mod formats;
mod input;
mod text;
mod times;

use std::fs;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;

use crate::dataset::Dataset;
use crate::settings::nearest::nearest;
use assemble::{About, assemble};
pub use error::PrepareError;

/// Told (bytes read, bytes in all) of the file with the events now and then while it is read.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A format that can be read. All text formats may be packed with gzip or zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// This project's: a header with `src,dst,ts,label` and feature columns, `edge_feat.npy` and `node_feat.npy` beside it.
    Csv,
    /// JODIE's `user_id,item_id,timestamp,state_label,features…`, where users and items have ids of their own.
    Jodie,
    /// `ml_X.csv`, `ml_X.npy` and `ml_X_node.npy` of TGN, TGAT and DyGLib.
    Tgn,
    /// `edges.csv` of TGL, with `edge_features.npy` and `node_features.npy`.
    Tgl,
    /// Parquet with the columns of the CSV.
    Parquet,
    /// Lines of `u v t`, as SNAP's.
    Snap,
}

/// A format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{name}`{}; the formats are {}", nearest(name, Format::NAMES).map_or(String::new(), |near| format!(" (did you mean `{near}`?)")), Format::NAMES.join(", "))]
pub struct UnknownFormat {
    name: String,
}

/// How to read a source. The default decides everything from the source.
#[derive(Clone, Debug, Default)]
pub struct PrepareOptions {
    /// The format, when it is not to be detected.
    pub format: Option<Format>,
    /// Refuse times that are not sorted, which otherwise are sorted with a notice.
    pub strict: bool,
    /// Ticks in one unit of the source's times. Otherwise the smallest power of ten up to 1e9 that makes all times whole.
    pub time_scale: Option<u64>,
    /// The unit of the source's times in words.
    pub time_unit: Option<String>,
    /// Whether sources and destinations are two sets of nodes, equal ids notwithstanding. Otherwise as the format says, or if no id is on both sides.
    pub bipartite: Option<bool>,
    /// What to call the set. Otherwise as its file or folder.
    pub name: Option<String>,
}

impl Format {
    /// Every format's name.
    pub const NAMES: [&str; 6] = ["csv", "jodie", "tgn", "tgl", "parquet", "snap"];
    const ALL: [Self; 6] = [Self::Csv, Self::Jodie, Self::Tgn, Self::Tgl, Self::Parquet, Self::Snap];

    /// The format's name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The format of a file or folder, told by its names and its first line.
    pub fn detect(source: impl AsRef<Path>) -> Result<Self, PrepareError> {
        detect::format(&detect::events_file(source.as_ref())?)
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| UnknownFormat { name: name.into() })
    }
}

/// Reads a source, a file or a folder, into a dataset in memory.
///
/// Nodes get dense numbers in ascending order of their ids, sources before destinations when they are two sets; events are sorted by time,
/// ties in the order of the file. What had to be decided or changed on the way is in the dataset's notices.
pub fn prepare(
    source: impl AsRef<Path>,
    options: &PrepareOptions,
    progress: Progress<'_>,
) -> Result<Dataset, PrepareError> {
    let source = source.as_ref();
    if options.time_scale == Some(0) {
        return Err(PrepareError::file(source, "a time scale of 0 ticks a unit leaves no times"));
    }
    let file = detect::events_file(source)?;
    let format = match options.format {
        Some(format) => format,
        None => detect::format(&file)?,
    };
    let read = match format {
        Format::Csv => crate::dataset::prepare::formats::csv::read,
        Format::Jodie => crate::dataset::prepare::formats::jodie::read,
        Format::Tgn => crate::dataset::prepare::formats::tgn::read,
        Format::Tgl => crate::dataset::prepare::formats::tgl::read,
        Format::Parquet => crate::dataset::prepare::formats::parquet::read,
        Format::Snap => crate::dataset::prepare::formats::snap::read,
    };
    let raw = read(&file, options, progress)?;
    assemble(raw, &file, source, about(source, &file, options), options)
}

/// The parts of a `meta.json` beside the events that are of use.
#[derive(Default, Deserialize)]
struct Meta {
    name: Option<String>,
    ts_unit: Option<String>,
}

fn about(source: &Path, file: &Path, options: &PrepareOptions) -> About {
    let meta = fs::read(file.with_file_name("meta.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<Meta>(&text).ok())
        .unwrap_or_default();
    let given = if source.is_dir() { source.canonicalize().ok() } else { None };
    let folder = given.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let stem = || stem(file).trim_start_matches("ml_").to_owned();
    About {
        name: options.name.clone().or(meta.name).or(folder).unwrap_or_else(stem),
        time_unit: options.time_unit.clone().or(meta.ts_unit).unwrap_or_default(),
    }
}

/// A file's name up to its first `.csv`, `.txt` or `.parquet`.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = [".csv", ".txt", ".parquet"].iter().filter_map(|end| name.find(end)).min();
    name[..end.unwrap_or(name.len())].to_owned()
}

#[cfg(test)]
mod tests;
