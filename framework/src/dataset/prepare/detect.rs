//! Detection of a source's format from its file names and its first line.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dataset::prepare::common::columns::by_name;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::{Input, Line};
use crate::dataset::prepare::common::options::Format;
use crate::dataset::prepare::common::text::names;

/// The file in `source` that holds the events: `source` itself, or in a folder `edges.…`, `ml_….csv`, or the only
/// file that may.
pub(crate) fn events_file(source: &Path) -> Result<PathBuf, PrepareError> {
    if !source.is_dir() {
        return Ok(source.to_owned());
    }
    let entries = fs::read_dir(source).map_err(|error| PrepareError::io(source, error))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| may_hold_events(path)).collect();
    files.sort();
    let named = |start: &str| files.iter().filter(|path| name(path).starts_with(start)).cloned().collect::<Vec<_>>();
    for found in [named("edges."), named("ml_"), files.clone()] {
        match <[PathBuf; 1]>::try_from(found) {
            Ok([only]) => return Ok(only),
            Err(none) if none.is_empty() => {}
            Err(several) => {
                let names: Vec<String> = several.iter().map(|path| name(path)).collect();
                return Err(PrepareError::file(
                    source,
                    format!("{} may each hold the events; name one", names.join(", ")),
                ));
            }
        }
    }
    Err(PrepareError::file(source, "the folder has no .csv, .txt or .parquet file"))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn may_hold_events(path: &Path) -> bool {
    let name = name(path);
    let inner = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    path.is_file() && [".csv", ".txt", ".parquet"].iter().any(|end| inner.ends_with(end))
}

pub(crate) fn format(path: &Path) -> Result<Format, PrepareError> {
    let mut input = Input::open(path)?;
    let mut comments = false;
    while let Some(line) = input.next_line(&mut |_, _| {})? {
        if line.text.starts_with(b"PAR1") {
            return Ok(Format::Parquet);
        }
        if !line.is_comment() {
            return by_line(line, comments).ok_or_else(|| unknown(line));
        }
        comments = true;
    }
    Err(PrepareError::file(path, "there are no events"))
}

fn by_line(line: Line<'_>, comments: bool) -> Option<Format> {
    let header = names(line);
    let has = |name: &str| header.iter().any(|found| found == name);
    let fields = line.by_blank().count();
    if header.len() == 1 && (comments || line.text.first().is_some_and(u8::is_ascii_digit)) && fields == 3 {
        Some(Format::Snap)
    } else if has("ext_roll") {
        Some(Format::Tgl)
    } else if ["u", "i", "ts", "idx"].into_iter().all(has) {
        Some(Format::Tgn)
    } else if header.starts_with(&["user_id", "item_id", "timestamp"].map(String::from)) {
        Some(Format::Jodie)
    } else {
        by_name(header).is_ok().then_some(Format::Csv)
    }
}

fn unknown(line: Line<'_>) -> PrepareError {
    let shown: String = String::from_utf8_lossy(line.text).chars().take(80).collect();
    line.refuse(format!(
        "no known format begins with `{shown}`; name the format if it is one of {}",
        Format::NAMES.join(", ")
    ))
}
