//! The features of tgbl-flight's airports: `airport_code,type,continent,iso_region,longitude,latitude`, a row each.

use std::path::Path;

use crate::dataset::Table;
use crate::dataset::prepare::common::assemble::NodeRows;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::events::letters;
use crate::dataset::prepare::common::ids::Ids;

/// Letters of a region.
const REGION: usize = 7;
/// Values that a type or a continent may have; the benchmark's file has four and seven.
const MOST: usize = 64;

struct Airport {
    code: String,
    kind: usize,
    continent: usize,
    region: Vec<f32>,
    place: [f32; 2],
}

/// The features of the airports that have events, as the benchmark computes them; none where the file is not there.
///
/// Types and continents become a column each, in the order in which they appear; regions a number for each letter.
pub(crate) fn read(edge_list: &Path, ids: &Ids) -> Result<Option<NodeRows>, PrepareError> {
    let version = if edge_list.to_string_lossy().contains("_edgelist_v2") { "_v2" } else { "" };
    let path = edge_list.with_file_name(format!("airport_node_feat{version}.csv"));
    if !path.is_file() {
        return Ok(None);
    }
    let refuse = |row: u64, fact: String| PrepareError::row(&path, row, fact);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(true)
        .flexible(true)
        .from_path(&path)
        .map_err(|error| PrepareError::file(&path, error.to_string()))?;
    let (mut kinds, mut continents, mut airports) = (Vec::new(), Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(|error| PrepareError::file(&path, error.to_string()))?;
        let row = record.position().map_or(0, csv::Position::line);
        let [code, kind, continent, region, longitude, latitude] = record.iter().collect::<Vec<_>>()[..] else {
            let fact =
                format!("{} columns, and code, type, continent, region, longitude and latitude are six", record.len());
            return Err(refuse(row, fact));
        };
        if !ids.knows(code) {
            continue;
        }
        let number = |what: &str, text: &str| {
            let value = text.trim().parse::<f32>().ok().filter(|value| value.is_finite());
            value.ok_or_else(|| refuse(row, format!("{what} `{text}` is not a number")))
        };
        if region.chars().count() > REGION {
            return Err(refuse(row, format!("region `{region}` has more than {REGION} letters")));
        }
        airports.push(Airport {
            code: code.to_owned(),
            kind: place(&mut kinds, kind).ok_or_else(|| refuse(row, format!("`{kind}` is one type too many")))?,
            continent: place(&mut continents, continent)
                .ok_or_else(|| refuse(row, format!("`{continent}` is one continent too many")))?,
            region: letters(region, REGION),
            place: [number("longitude", longitude)?, number("latitude", latitude)?],
        });
    }
    let width = kinds.len() + continents.len() + REGION + 2;
    let mut values = Vec::with_capacity(airports.len() * width);
    for airport in &airports {
        let one = |count: usize, at: usize| (0..count).map(move |column| f32::from(u8::from(column == at)));
        values.extend(one(kinds.len(), airport.kind).chain(one(continents.len(), airport.continent)));
        values.extend(airport.region.iter().chain(&airport.place));
    }
    let table = Table::new(values, width).map_err(|error| PrepareError::file(&path, error.to_string()))?;
    let names = airports.into_iter().map(|airport| airport.code).collect();
    Ok(Some(NodeRows { table, path, padded: false, names: Some(names) }))
}

/// The place of a value among those before it.
fn place(known: &mut Vec<String>, value: &str) -> Option<usize> {
    if let Some(at) = known.iter().position(|other| other == value) {
        return Some(at);
    }
    known.push(value.to_owned());
    (known.len() <= MOST).then(|| known.len() - 1)
}
