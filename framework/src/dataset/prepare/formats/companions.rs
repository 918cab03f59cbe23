//! Feature arrays next to a text file.

use std::path::{Path, PathBuf};

use crate::dataset::prepare::common::assemble::{Features, NodeRows};
use crate::dataset::prepare::common::columns::{ColumnName, RawEvents, Role, by_name};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::Input;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::common::text::{Separator, header, read_lines};
use crate::dataset::prepare::formats::npy;

/// Edge features with one row an event, in the order of the events.
pub(crate) fn edge_rows(path: &Path, events: usize) -> Result<Option<Features>, PrepareError> {
    let Some(table) = npy::read_if_there(path)? else { return Ok(None) };
    if table.rows() != events {
        return Err(PrepareError::file(path, format!("{} rows of features for {events} events", table.rows())));
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
    Ok(npy::read_if_there(&path)?.map(|table| NodeRows { table, path, padded }))
}

/// Reads a csv whose events have an index into an array and no features of their own. `role` gives the roles of the
/// format's own columns. Also returns a notice if other columns were ignored.
pub(crate) fn read_indexed(
    path: &Path,
    options: &PrepareOptions,
    progress: Progress<'_>,
    role: impl Fn(&str) -> Option<Role>,
) -> Result<(RawEvents, Option<String>), PrepareError> {
    let mut input = Input::open(path)?;
    let header = header(&mut input, path, &mut *progress)?;
    let named = by_name(header).map_err(|fact| PrepareError::row(path, 1, fact))?;
    let mut passed_over = Vec::new();
    let mut decide = |column: ColumnName| {
        let decided = role(&column.name).unwrap_or(column.role);
        if decided != Role::Feature {
            return ColumnName { role: decided, ..column };
        }
        passed_over.push(column.name.clone());
        ColumnName { role: Role::Ignored, ..column }
    };
    let columns: Vec<ColumnName> = named.into_iter().map(&mut decide).collect();
    let mut events = RawEvents::new(options.time_scale);
    read_lines(&mut input, Separator::Comma, &columns, &mut events, progress)?;
    let notice = (!passed_over.is_empty()).then(|| format!("the columns `{}` were passed over", passed_over.join(",")));
    Ok((events, notice))
}
