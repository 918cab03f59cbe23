//! Reading files of other formats into a [`Dataset`].
//!
//! Each format's reader reads columns of numbers from its files and keeps the order of the file. The common steps
//! (sorting, dense node numbers, features in the order of their events) then run once. Nothing is written here:
//! [`Dataset::write`] writes the resulting dataset.
pub(crate) mod common;
mod detect;
pub(crate) mod formats;

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::dataset::Dataset;
use common::assemble::{DatasetInfo, assemble};
pub use common::error::PrepareError;
use common::options::stem;
pub use common::options::{Format, PrepareOptions, Progress, UnknownFormat};

impl Format {
    /// The format of a file or folder, detected from its names and its first line.
    pub fn detect(source: impl AsRef<Path>) -> Result<Self, PrepareError> {
        detect::format(&detect::events_file(source.as_ref())?)
    }
}

/// Reads a source, a file or a folder, into a dataset in memory.
///
/// Nodes get dense numbers in ascending order of their ids, sources before destinations when they are two sets; events
/// are sorted by time, ties in the order of the file. The dataset's notices list the decisions and changes made on the
/// way.
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
        Format::Csv => formats::csv::read,
        Format::Jodie => formats::jodie::read,
        Format::Tgn => formats::tgn::read,
        Format::Tgl => formats::tgl::read,
        Format::Parquet => formats::parquet::read,
        Format::Snap => formats::snap::read,
    };
    let raw = read(&file, options, progress)?;
    assemble(raw, &file, source, about(source, &file, options), options)
}

/// The fields that are read of a `meta.json` next to the events.
#[derive(Default, Deserialize)]
struct Meta {
    name: Option<String>,
    ts_unit: Option<String>,
}

fn about(source: &Path, file: &Path, options: &PrepareOptions) -> DatasetInfo {
    let meta = fs::read(file.with_file_name("meta.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<Meta>(&text).ok())
        .unwrap_or_default();
    let given = if source.is_dir() { source.canonicalize().ok() } else { None };
    let folder = given.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let stem = || stem(file).trim_start_matches("ml_").to_owned();
    DatasetInfo {
        name: options.name.clone().or(meta.name).or(folder).unwrap_or_else(stem),
        time_unit: options.time_unit.clone().or(meta.ts_unit).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
