//! Options of a file beside the events.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{Encoding, Missing, PrepareOptions, stem};

/// The keys of the file, which are those of the command line.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Keys {
    src: Option<String>,
    dst: Option<String>,
    #[serde(alias = "time")]
    ts: Option<String>,
    label: Option<String>,
    end: Option<String>,
    #[serde(default, alias = "targets")]
    target: Vec<String>,
    features: Option<Vec<String>>,
    #[serde(default)]
    drop: Vec<String>,
    #[serde(default)]
    categorical: Vec<String>,
    encoding: Option<Encoding>,
    missing: Option<Missing>,
    delimiter: Option<String>,
    format: Option<String>,
    #[serde(alias = "time_unit")]
    time_unit: Option<String>,
    #[serde(alias = "time_scale")]
    time_scale: Option<u64>,
    bipartite: Option<bool>,
    name: Option<String>,
    ids: Option<String>,
    #[serde(default, alias = "row_order")]
    row_order: bool,
}

/// The options with those of the file that is named, or lies beside the events; what is said already stays. Also names the file, if there
/// is one.
pub(crate) fn options(events: &Path, said: &PrepareOptions) -> Result<(PrepareOptions, Option<String>), PrepareError> {
    let mut options = said.clone();
    let beside = events.with_file_name(format!("{}.toml", stem(events)));
    let path = match &said.columns_file {
        Some(path) => path.clone(),
        None if events != Path::new("-") && beside != events && beside.is_file() => beside,
        None => return Ok((options, None)),
    };
    let text = fs::read_to_string(&path).map_err(|error| PrepareError::io(&path, error))?;
    let refuse = |fact: String| PrepareError::file(&path, fact);
    let table: toml::Table = toml::from_str(&text).map_err(|error| refuse(error.to_string().trim_end().to_owned()))?;
    if said.columns_file.is_none() && ["data", "model", "train"].iter().any(|key| table.contains_key(*key)) {
        // A spec of a training that happens to have the name of the events.
        return Ok((options, None));
    }
    let keys: Keys =
        table.try_into().map_err(|error: toml::de::Error| refuse(error.to_string().trim_end().to_owned()))?;
    let columns = &mut options.columns;
    columns.src = columns.src.take().or(keys.src);
    columns.dst = columns.dst.take().or(keys.dst);
    columns.time = columns.time.take().or(keys.ts);
    columns.label = columns.label.take().or(keys.label);
    columns.end = columns.end.take().or(keys.end);
    columns.targets.extend(keys.target);
    columns.features = columns.features.take().or(keys.features);
    columns.drop.extend(keys.drop);
    columns.categorical.extend(keys.categorical);
    options.encoding = options.encoding.or(keys.encoding);
    options.missing = options.missing.or(keys.missing);
    options.bipartite = options.bipartite.or(keys.bipartite);
    options.time_scale = options.time_scale.or(keys.time_scale);
    options.time_unit = options.time_unit.take().or(keys.time_unit);
    options.name = options.name.take().or(keys.name);
    options.row_order |= keys.row_order;
    if options.format.is_none() {
        options.format = keys
            .format
            .map(|name| name.parse())
            .transpose()
            .map_err(|error: crate::UnknownFormat| refuse(error.to_string()))?;
    }
    if options.delimiter.is_none() {
        options.delimiter = keys.delimiter.map(|name| name.parse()).transpose().map_err(refuse)?;
    }
    match keys.ids.as_deref() {
        None | Some("auto") => {}
        Some("text") => options.text_ids = true,
        Some(other) => return Err(refuse(format!("`ids = \"{other}\"` is neither \"auto\" nor \"text\""))),
    }
    Ok((options, Some(path.display().to_string())))
}
