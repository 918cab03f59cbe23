//! What the text formats share: a header line, then one event a line.

use std::path::Path;

use super::assemble::Features;
use super::columns::{ColumnName, RawEvents, feature_width};
use super::input::{Input, Line};
use super::{PrepareError, Progress};
use crate::dataset::Table;

/// What stands between two fields.
#[derive(Clone, Copy)]
pub(super) enum Separator {
    Comma,
    Blank,
}

/// Names of a header line.
pub(super) fn names(line: Line<'_>) -> Vec<String> {
    line.by_comma().map(|field| String::from_utf8_lossy(field).trim_matches('"').trim().to_owned()).collect()
}

/// Names in the first line of a file.
pub(super) fn header(input: &mut Input, path: &Path, progress: Progress<'_>) -> Result<Vec<String>, PrepareError> {
    let line = input.next_line(progress)?.ok_or_else(|| PrepareError::file(path, "the file is empty"))?;
    Ok(names(line))
}

/// Appends the events in the lines that are left.
pub(super) fn read_lines(
    input: &mut Input,
    separator: Separator,
    columns: &[ColumnName],
    events: &mut RawEvents,
    progress: Progress<'_>,
) -> Result<(), PrepareError> {
    while let Some(line) = input.next_line(&mut *progress)? {
        match separator {
            Separator::Comma => events.push_row(line, columns, line.by_comma())?,
            Separator::Blank if line.is_comment() => {}
            Separator::Blank => events.push_row(line, columns, line.by_blank())?,
        }
    }
    Ok(())
}

/// The features that stood in the events' own columns.
pub(super) fn own_features(events: &mut RawEvents, columns: &[ColumnName]) -> Option<Features> {
    let table = Table::new(std::mem::take(&mut events.features), feature_width(columns)).ok()?;
    Some(Features { table, indexed: false })
}
