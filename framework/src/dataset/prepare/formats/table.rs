//! Tables in text: what a format's reader plans from the first lines, and the rows that are then read.

use std::path::{Path, PathBuf};

use crate::dataset::prepare::common::assemble::IdSpace;
use crate::dataset::prepare::common::columns::{Column, Ends, Role, ends};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::events::{Cell, RawEvents, number_like};
use crate::dataset::prepare::common::input::Input;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::common::text::{RowReader, Sniffed};
use crate::settings::count::{counted, were};

/// Files of one format in the order in which they are read; the first is open.
pub(crate) struct Files {
    pub(crate) first: Input,
    pub(crate) sniffed: Sniffed,
    pub(crate) rest: Vec<PathBuf>,
}

/// How the rows of a text file are read.
pub(crate) struct Plan {
    pub(crate) columns: Vec<Column>,
    /// Whether the first row is a header.
    pub(crate) header: bool,
    pub(crate) space: IdSpace,
    /// What is known of the format besides the delimiter.
    pub(crate) how: String,
    pub(crate) notices: Vec<String>,
    pub(crate) exact: Exactness,
}

/// What a format says of the values of its ids and times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Exactness {
    /// Fractions of times are cut off.
    pub(crate) whole_times: bool,
    /// Ids are text as it is written, whatever it looks like.
    pub(crate) ids_as_written: bool,
}

/// What the names of the columns say of ids.
pub(crate) fn space_of(columns: &[Column]) -> IdSpace {
    let name =
        |role| columns.iter().find(|column| column.role == role).map_or(String::new(), |column| column.name.clone());
    let (src, dst) = (name(Role::Src), name(Role::Dst));
    match ends(columns) {
        Ends::OneKind => IdSpace::Shared,
        Ends::TwoKinds => IdSpace::Separate(format!("columns `{src}` and `{dst}` name two kinds")),
        Ends::Unknown => IdSpace::Ask(src, dst),
    }
}

/// Reads all rows of all files. Also says what separates the fields.
pub(crate) fn read(
    files: Files,
    plan: &Plan,
    options: &PrepareOptions,
    progress: Progress<'_>,
) -> Result<(RawEvents, String, Vec<String>), PrepareError> {
    let Files { first, sniffed, rest } = files;
    let delimiter = sniffed.delimiter;
    let mut notices = Vec::new();
    let mut events = RawEvents::new(plan.columns.clone(), options);
    if plan.exact.whole_times {
        events.times.cut_fractions();
    }
    if plan.exact.ids_as_written {
        events.keep_ids_as_written();
    }
    let header = sniffed.rows.first().filter(|_| plan.header);
    read_file(RowReader::new(first, delimiter), plan, None, &mut events, &mut notices, progress)?;
    for path in &rest {
        let input = Input::open(path)?;
        read_file(RowReader::new(input, delimiter), plan, header, &mut events, &mut notices, progress)?;
    }
    let header = if plan.header { "with a header" } else { "without a header" };
    let several = if rest.is_empty() { String::new() } else { format!(", {} files in order", rest.len() + 1) };
    let how = if plan.how.is_empty() { String::new() } else { format!(", {}", plan.how) };
    Ok((events, format!("fields between {}, {header}{how}{several}", delimiter.name()), notices))
}

fn read_file(
    mut rows: RowReader,
    plan: &Plan,
    same: Option<&Vec<String>>,
    events: &mut RawEvents,
    notices: &mut Vec<String>,
    progress: Progress<'_>,
) -> Result<(), PrepareError> {
    rows.pass_comments()?;
    let path = rows.path().to_owned();
    let width = plan.columns.len();
    if plan.header && same.is_none() {
        rows.next_row(&mut *progress)?;
    }
    rows.width = width;
    let mut first = true;
    while let Some((row, fields)) = rows.next_row(&mut *progress)? {
        if let Some(header) = same.filter(|_| first) {
            first = false;
            let found: Vec<String> = fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
            if &found == header {
                continue;
            }
            if !found.iter().any(|field| number_like(field.as_bytes())) {
                let (found, header) = (found.join(","), header.join(","));
                let fact =
                    format!("the header is `{found}`, and that of the first file `{header}`: all need one header");
                return Err(PrepareError::row(&path, row, fact));
            }
        }
        if fields.len() != width {
            return Err(width_fault(&path, row, fields.len(), width));
        }
        events.push(&path, row, |at| Cell::Text(fields.get(at)))?;
    }
    if rows.comments > 0 {
        notices.push(format!(
            "{} of {} {} taken for comments",
            counted(rows.comments, "line"),
            path.display(),
            were(rows.comments)
        ));
    }
    Ok(())
}

fn width_fault(path: &Path, row: u64, found: usize, width: usize) -> PrepareError {
    let advice = if found == width + 1 {
        "; a value that holds the delimiter needs quotes, and a header one name for each column"
    } else {
        ""
    };
    PrepareError::row(path, row, format!("{found} columns, not {width}{advice}"))
}
