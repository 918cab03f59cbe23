//! Detection of a source's format from its file names and its first lines.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dataset::prepare::common::columns::tells_ends;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::Input;
use crate::dataset::prepare::common::options::{ENDINGS, Format, PrepareOptions};
use crate::dataset::prepare::common::text::Sniffed;
use crate::dataset::prepare::formats::csv::{comment_header, header, holds_values, typed};
use crate::dataset::prepare::formats::edge_lists::{begins_with_time, konect_header};
use crate::dataset::prepare::formats::jodie::FEATURES;
use crate::dataset::prepare::formats::tgb;

/// The file in `source` that holds the events: `source` itself, or in a folder `edges.…`, `ml_….csv`, or the only
/// file that may.
pub(crate) fn events_file(source: &Path) -> Result<PathBuf, PrepareError> {
    if source == Path::new("-") || !source.is_dir() {
        return Ok(source.to_owned());
    }
    if source.join("dataset.json").exists() && source.join("columns.safetensors").exists() {
        return Err(PrepareError::file(source, "the set is prepared already: put the folder into data.path of a spec"));
    }
    let entries = fs::read_dir(source).map_err(|error| PrepareError::io(source, error))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| may_hold_events(path)).collect();
    files.sort();
    let named = |start: &str| files.iter().filter(|path| name(path).starts_with(start)).cloned().collect::<Vec<_>>();
    let edge_lists: Vec<PathBuf> = files.iter().filter(|path| tgb::edge_list_of(path).is_some()).cloned().collect();
    for found in [named("edges."), named("ml_"), named("out."), edge_lists, files.clone()] {
        match <[PathBuf; 1]>::try_from(found) {
            Ok([only]) => return Ok(only),
            Err(none) if none.is_empty() => {}
            Err(several) => {
                let names: Vec<String> = several.iter().map(|path| name(path)).collect();
                return Err(PrepareError::file(
                    source,
                    format!("{} may each hold the events; name one, or several in their order", names.join(", ")),
                ));
            }
        }
    }
    Err(PrepareError::file(
        source,
        "the folder has no .csv, .txt or .parquet file, nor one with another ending of events: .tsv, .inter, .arrow",
    ))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn may_hold_events(path: &Path) -> bool {
    let name = name(path);
    let inner = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    path.is_file()
        && !name.starts_with('.')
        && (ENDINGS.iter().any(|end| inner.ends_with(end)) || name.starts_with("out."))
}

/// What a file is that is no table of events, by its first bytes, and how to make one of it.
fn foreign(magic: &[u8; 8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 9] = [
        (b"PK\x03\x04", "a zip archive (or a workbook, or .npz); unpack it, or save the sheet as csv"),
        (
            b"\x93NUMPY",
            "an array of numpy; save the table as csv or Parquet, arrays of features as edge_feat.npy beside it",
        ),
        (b"\x80\x02", "a pickle, which only Python can read; save the frame with `to_parquet` or `to_csv`"),
        (b"\x80\x03", "a pickle, which only Python can read; save the frame with `to_parquet` or `to_csv`"),
        (b"\x80\x04", "a pickle, which only Python can read; save the frame with `to_parquet` or `to_csv`"),
        (b"\x80\x05", "a pickle, which only Python can read; save the frame with `to_parquet` or `to_csv`"),
        (b"\x89HDF", "HDF5; save the frame with `to_parquet` or `to_csv`"),
        (b"SQLite f", "a database of SQLite; export the table as csv"),
        (b"FEA1", "Feather of version 1; save the frame with `to_feather` of a newer pandas, or as Parquet"),
    ];
    let plain: [(&[u8], &str); 3] = [
        (b"Obj\x01", "Avro; save the table as Parquet"),
        (b"ORC", "ORC; save the table as Parquet"),
        (b"BZh", "packed with bzip2; unpack it, or pack it with gzip or zstd"),
    ];
    let xz: (&[u8], &str) = (b"\xfd7zXZ\x00", "packed with xz; unpack it, or pack it with gzip or zstd");
    known.into_iter().chain(plain).chain([xz]).find(|(start, _)| magic.starts_with(start)).map(|(_, what)| what)
}

/// The format of binary files by their first bytes.
pub(crate) fn binary(path: &Path, magic: &[u8; 8]) -> Result<Option<Format>, PrepareError> {
    if let Some(what) = foreign(magic) {
        return Err(PrepareError::file(path, format!("the file is {what}")));
    }
    Ok(match magic {
        _ if magic.starts_with(b"PAR1") => Some(Format::Parquet),
        _ if magic.starts_with(b"ARROW1") || magic.starts_with(b"\xff\xff\xff\xff") => Some(Format::Arrow),
        _ => None,
    })
}

/// Refuses files that say what else they are.
pub(crate) fn refuse_others(path: &Path, sniffed: &Sniffed) -> Result<(), PrepareError> {
    let first = sniffed.rows.first().map(|row| row.join(" ")).unwrap_or_default();
    let start = first.trim_start();
    let tables = ["[data]", "[model]", "[train]", "[eval]", "[parallel]"];
    let fact = if path.extension().is_some_and(|end| end == "toml")
        || tables.iter().any(|table| start.starts_with(table))
    {
        "a spec is no table of events: `tempograph train` reads it, and `prepare` the file its events come from; roles of columns are given with --columns FILE"
    } else if start.starts_with('{') || start.starts_with('[') {
        "JSON is not read; write one event a line as csv, as with `jq -r '[.src, .dst, .ts] | @csv'`"
    } else if start.starts_with('<') {
        "the file is a page or XML and no table of events; was the download refused?"
    } else {
        return Ok(());
    };
    Err(PrepareError::row(path, sniffed.first_row, fact))
}

/// The format of a text file by its first lines.
pub(crate) fn text(input: &Input, sniffed: &Sniffed, options: &PrepareOptions) -> Result<Format, PrepareError> {
    let path = input.path();
    refuse_others(path, sniffed)?;
    if let Some(fact) = tgb::not_events(path) {
        return Err(PrepareError::file(path, fact));
    }
    let Some(first) = sniffed.rows.first() else { return Err(PrepareError::file(path, "there are no events")) };
    let has = |name: &str| first.iter().any(|found| found == name);
    let said = &options.columns;
    let roles = said.src.is_some() || said.dst.is_some() || said.time.is_some();
    if tgb::edge_list_of(path).is_some() && !roles {
        return Ok(Format::Tgb);
    }
    let head = header(sniffed, said);
    if first.iter().any(|name| typed(name).is_some()) {
        return Ok(Format::Recbole);
    }
    if head.row {
        return if has("ext_roll") {
            Ok(Format::Tgl)
        } else if ["u", "i", "ts", "idx"].into_iter().all(has) {
            Ok(Format::Tgn)
        } else if is_jodie(first, sniffed.rows.get(1)) {
            Ok(Format::Jodie)
        } else if roles || tells_ends(first) {
            Ok(Format::Csv)
        } else {
            Err(unknown(path, sniffed))
        };
    }
    if roles || comment_header(sniffed, first.len()).is_some() {
        return Ok(Format::Csv);
    }
    if konect_header(sniffed).is_some() || name(path).starts_with("out.") {
        return Ok(Format::Konect);
    }
    if !holds_values(first) || first.len() < 2 {
        return Err(unknown(path, sniffed));
    }
    if first.len() == 3
        || first.len() == 5 && sniffed.rows.iter().all(|row| row.len() == 5 && row[3].parse::<f64>().is_err())
    {
        return match begins_with_time(sniffed) {
            Some(true) => Ok(Format::Sociopatterns),
            Some(false) if first.len() == 3 => Ok(Format::Snap),
            _ => Err(PrepareError::row(
                path,
                sniffed.first_row,
                "the rows do not tell whether they are `u v t` or `t i j`: --format snap or --format sociopatterns says so",
            )),
        };
    }
    Ok(Format::Snap)
}

/// JODIE's header calls all features one column, or its rows have more fields than names.
fn is_jodie(header: &[String], row: Option<&Vec<String>>) -> bool {
    let four = ["user_id", "item_id", "timestamp", "state_label"];
    header.len() >= 3
        && header.iter().zip(four).take(3).all(|(name, wanted)| name == wanted)
        && (header.last().is_some_and(|name| name == FEATURES)
            || header.get(3).is_some_and(|name| name == four[3]) && row.is_some_and(|row| row.len() > header.len()))
}

fn unknown(path: &Path, sniffed: &Sniffed) -> PrepareError {
    let first = sniffed.rows.first().map(|row| row.join(",")).unwrap_or_default();
    let shown: String = first.chars().take(80).collect();
    let fact = format!(
        "no known format begins with `{shown}`; --src NAME --dst NAME --ts NAME say which columns are the source, the destination and the time, or name the format if it is one of {}",
        Format::NAMES.join(", ")
    );
    PrepareError::row(path, sniffed.first_row, fact)
}
