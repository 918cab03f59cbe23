//! What the text formats share: a header line, then one event a line.

use std::path::Path;

use crate::dataset::Table;
use crate::dataset::prepare::common::assemble::Features;
use crate::dataset::prepare::common::columns::{ColumnName, RawEvents, feature_width};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::{Input, Line};
use crate::dataset::prepare::common::options::Progress;

/// The separator of two fields.
#[derive(Clone, Copy)]
pub(crate) enum Separator {
    Comma,
    Blank,
}

/// Names of a header line.
pub(crate) fn names(line: Line<'_>) -> Vec<String> {
    line.by_comma().map(|field| String::from_utf8_lossy(field).trim_matches('"').trim().to_owned()).collect()
}

/// Names in the first line of a file.
pub(crate) fn header(input: &mut Input, path: &Path, progress: Progress<'_>) -> Result<Vec<String>, PrepareError> {
    let line = input.next_line(progress)?.ok_or_else(|| PrepareError::file(path, "the file is empty"))?;
    Ok(names(line))
}

/// Appends the events of the remaining lines.
pub(crate) fn read_lines(
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

/// The features from the events' own columns.
pub(crate) fn own_features(events: &mut RawEvents, columns: &[ColumnName]) -> Option<Features> {
    let table = Table::new(std::mem::take(&mut events.features), feature_width(columns)).ok()?;
    Some(Features { table, indexed: false })
}
