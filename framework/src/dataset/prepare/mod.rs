//! Reading files of other formats into a [`Dataset`].
//!
//! Each format's reader reads columns from its files and keeps the order of the file; each file is read once. The common steps
//! (sorting, dense node numbers, features in the order of their events) then run once. Nothing is written here:
//! [`Dataset::write`] writes the resulting dataset.
mod beside;
pub(crate) mod common;
mod detect;
pub(crate) mod formats;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::dataset::Dataset;
pub use common::assemble::Reading;
use common::assemble::{DatasetInfo, assemble};
pub use common::error::PrepareError;
use common::input::Input;
use common::options::stem;
pub use common::options::{ColumnRoles, Delimiter, Encoding, Format, Missing, PrepareOptions, Progress, UnknownFormat};
use common::text::Sniffed;
use formats::table::Files;

/// A source that was read, and how it was understood.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The set.
    pub dataset: Dataset,
    /// What the source was taken for.
    pub reading: Reading,
}

impl Format {
    /// The format of a file or folder, detected from its names and its first lines.
    pub fn detect(source: impl AsRef<Path>) -> Result<Self, PrepareError> {
        let path = detect::events_file(source.as_ref())?;
        let (options, _) = beside::options(&path, &PrepareOptions::default())?;
        let mut input = Input::open(&path)?;
        if let Some(format) = detect::binary(&path, &input.magic()?)? {
            return Ok(format);
        }
        let sniffed = Sniffed::of(&mut input, options.delimiter)?;
        detect::text(&input, &sniffed, &options)
    }
}

/// Reads a source, a file or a folder or `-` for standard input, into a dataset.
///
/// Nodes get dense numbers in ascending order of their ids, sources before destinations when they are two sets; events
/// are sorted by time, ties in the order of the file. The dataset's notices list the decisions and changes made on the
/// way.
pub fn prepare(
    source: impl AsRef<Path>,
    options: &PrepareOptions,
    progress: Progress<'_>,
) -> Result<Dataset, PrepareError> {
    prepare_files(&[source], options, progress).map(|prepared| prepared.dataset)
}

/// Reads the files of one source in order, and tells how they were understood.
///
/// # Errors
/// Bad input, with file, row, column and value. Several files of a format that is not a table in text.
pub fn prepare_files<P: AsRef<Path>>(
    sources: &[P],
    options: &PrepareOptions,
    progress: Progress<'_>,
) -> Result<Prepared, PrepareError> {
    let Some(source) = sources.first().map(AsRef::as_ref) else {
        return Err(PrepareError::file(Path::new(""), "no file is named"));
    };
    let mut paths = sources.iter().map(|source| detect::events_file(source.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let file = paths.remove(0);
    let (options, beside) = beside::options(&file, options)?;
    let options = &options;
    if options.time_scale == Some(0) {
        return Err(PrepareError::file(source, "a time scale of 0 ticks a unit leaves no times"));
    }
    let mut input = Input::open(&file)?;
    let magic = input.magic()?;
    let binary = match (options.format, detect::binary(&file, &magic)?) {
        (Some(asked), Some(found)) if asked != found => {
            let fact = format!("the file is of the format {}, not {}", found.name(), asked.name());
            return Err(PrepareError::file(&file, fact));
        }
        (Some(asked @ (Format::Parquet | Format::Arrow)), None) => Some(asked),
        (_, found) => found,
    };
    let (format, mut raw) = match binary {
        Some(format) => {
            if file == Path::new("-") {
                let fact = format!(
                    "{} cannot be read from standard input, since it is read from its end; name a file",
                    format.name()
                );
                return Err(PrepareError::file(&file, fact));
            }
            if let Some(packing) = input.packed() {
                let fact = format!(
                    "the file is {} packed with {packing}; unpack it, since it is read from its end",
                    format.name()
                );
                return Err(PrepareError::file(&file, fact));
            }
            let files: Vec<PathBuf> = std::iter::once(file.clone()).chain(paths).collect();
            let raw = match format {
                Format::Arrow => formats::arrow::read(&files, options, progress)?,
                _ => formats::parquet::read(&files, options, progress)?,
            };
            (format, raw)
        }
        None => {
            let sniffed = Sniffed::of(&mut input, options.delimiter)?;
            let format = match options.format {
                Some(format) => {
                    detect::refuse_others(&file, &sniffed)?;
                    format
                }
                None => detect::text(&input, &sniffed, options)?,
            };
            let files = Files { first: input, sniffed, rest: paths };
            let raw = match format {
                Format::Csv | Format::Parquet | Format::Arrow => formats::csv::read(files, options, progress)?,
                Format::Recbole => formats::csv::read_recbole(files, options, progress)?,
                Format::Jodie => formats::jodie::read(files, options, progress)?,
                Format::Tgn => formats::tgn::read(files, options, progress)?,
                Format::Tgl => formats::tgl::read(files, options, progress)?,
                Format::Tgb => formats::tgb::read(files, options, progress)?,
                Format::Snap | Format::Konect | Format::Sociopatterns => {
                    formats::edge_lists::read(format, files, options, progress)?
                }
            };
            (format, raw)
        }
    };
    if let Some(beside) = beside {
        raw.how = format!("{}; roles as {beside} says", raw.how);
    }
    let (dataset, reading) = assemble(raw, format, &file, source, about(source, &file, options), options)?;
    Ok(Prepared { dataset, reading })
}

/// The fields that are read of a `meta.json` next to the events.
#[derive(Default, Deserialize)]
struct Meta {
    name: Option<String>,
    ts_unit: Option<String>,
}

fn about(source: &Path, file: &Path, options: &PrepareOptions) -> DatasetInfo {
    if file == Path::new("-") {
        let name = options.name.clone().unwrap_or_else(|| "events".into());
        return DatasetInfo { name, time_unit: options.time_unit.clone().unwrap_or_default() };
    }
    let meta = fs::read(file.with_file_name("meta.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<Meta>(&text).ok())
        .unwrap_or_default();
    let given = if source.is_dir() { source.canonicalize().ok() } else { None };
    let folder = given.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let stem = || {
        formats::tgb::edge_list_of(file).map_or_else(|| stem(file).trim_start_matches("ml_").to_owned(), String::from)
    };
    DatasetInfo {
        name: options.name.clone().or(meta.name).or(folder).unwrap_or_else(stem),
        time_unit: options.time_unit.clone().or(meta.ts_unit).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
