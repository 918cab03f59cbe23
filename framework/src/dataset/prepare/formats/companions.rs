//! Feature arrays next to a text file.

use std::path::{Path, PathBuf};

use crate::dataset::prepare::common::assemble::{Features, IdSpace, NodeRows};
use crate::dataset::prepare::common::columns::{Column, Role, by_name};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::events::RawEvents;
use crate::dataset::prepare::common::options::{Encoding, PrepareOptions, Progress};
use crate::dataset::prepare::formats::npy;
use crate::dataset::prepare::formats::table::{Exactness, Files, Plan, read as read_rows};

/// Edge features with one row an event, in the order of the events.
pub(crate) fn edge_rows(path: &Path, events: &RawEvents) -> Result<Option<Features>, PrepareError> {
    let Some(table) = npy::read_if_there(path)? else { return Ok(None) };
    let (rows, events) = (events.rows(), events.len() as u64);
    if table.rows() as u64 != rows || rows != events {
        let dropped = if rows == events { "" } else { ", of which some were left out" };
        return Err(PrepareError::file(path, format!("{} rows of features for {rows} events{dropped}", table.rows())));
    }
    Ok(Some(Features { table, indexed: false }))
}

/// Edge features in rows that the events' index names, after `padding` rows that belong to no event.
pub(crate) fn indexed_edge_rows(
    path: &Path,
    events: &RawEvents,
    padding: usize,
) -> Result<Option<Features>, PrepareError> {
    let Some(table) = npy::read_if_there(path)? else { return Ok(None) };
    if table.rows() != events.len() + padding {
        let fact =
            format!("{} rows of features for {} events and {padding} rows of padding", table.rows(), events.len());
        return Err(PrepareError::file(path, fact));
    }
    if let Some(event) = events.index.iter().position(|&row| row >= table.rows() as u64) {
        return Err(PrepareError::file(
            path,
            format!("{} rows, but event {event} has the index {}", table.rows(), events.index[event]),
        ));
    }
    Ok(Some(Features { table, indexed: !events.index.is_empty() }))
}

/// Node features with one row for each own id, from zero.
pub(crate) fn node_rows(path: PathBuf, padded: bool) -> Result<Option<NodeRows>, PrepareError> {
    Ok(npy::read_if_there(&path)?.map(|table| NodeRows { table, path, padded, names: None }))
}

/// Reads a csv whose events have an index into an array and no features of their own. `role` gives the roles of the
/// format's own columns. Also returns the format in words, and a notice if other columns were ignored.
pub(crate) fn read_indexed(
    files: Files,
    options: &PrepareOptions,
    progress: Progress<'_>,
    role: impl Fn(&str) -> Option<Role>,
) -> Result<(RawEvents, String, Vec<String>), PrepareError> {
    let path = files.first.path().to_owned();
    let header = files.sniffed.rows.first().cloned().unwrap_or_default();
    let columns = by_name(&header, &options.columns, Encoding::OneHot, false)
        .map_err(|fact| PrepareError::row(&path, files.sniffed.first_row, fact))?;
    let mut passed_over = Vec::new();
    let decide = |column: Column| {
        let decided = role(&column.name).unwrap_or(column.role);
        if decided != column.role {
            return Column { role: decided, why: "by the format", ..column };
        }
        if !matches!(decided, Role::Feature | Role::Category(_)) {
            return column;
        }
        passed_over.push(column.name.clone());
        Column { role: Role::Ignored, why: "features are in the array", ..column }
    };
    let columns: Vec<Column> = columns.into_iter().map(decide).collect();
    let (space, exact) = (IdSpace::Shared, Exactness::default());
    let mut plan = Plan { columns, header: true, space, how: String::new(), notices: Vec::new(), exact };
    if !passed_over.is_empty() {
        plan.notices.push(format!("the columns `{}` were passed over", passed_over.join(",")));
    }
    let (events, how, notices) = read_rows(files, &plan, options, progress)?;
    plan.notices.extend(notices);
    Ok((events, how, plan.notices))
}

/// Leaves out the features among the columns, for those of `edge_feat.npy`, and says so.
pub(crate) fn pass_over_features(columns: &mut [Column]) -> Option<String> {
    let mut names = Vec::new();
    for column in columns.iter_mut().filter(|column| matches!(column.role, Role::Feature | Role::Category(_))) {
        (column.role, column.why) = (Role::Ignored, "features are in edge_feat.npy");
        names.push(column.name.as_str());
    }
    (!names.is_empty())
        .then(|| format!("the features are those of edge_feat.npy; the columns `{}` were passed over", names.join(",")))
}
