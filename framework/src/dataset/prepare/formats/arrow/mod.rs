//! Arrow IPC, as a file (Feather version 2) or as a stream: columns named as those of the CSV, of the types that Parquet may have.
//!
//! The feature `arrow` turns the reader on. Without it a file is recognised and refused with what to do.

#[cfg(feature = "arrow")]
mod messages;
#[cfg(feature = "arrow")]
mod values;

use std::path::PathBuf;

use crate::dataset::prepare::common::assemble::RawSource;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};

/// Refuses a file, in a build that does not read it.
#[cfg(not(feature = "arrow"))]
pub(crate) fn read(paths: &[PathBuf], _: &PrepareOptions, _: Progress<'_>) -> Result<RawSource, PrepareError> {
    Err(refusal(paths))
}

#[cfg(any(test, not(feature = "arrow")))]
fn refusal(paths: &[PathBuf]) -> PrepareError {
    let path = paths.first().cloned().unwrap_or_default();
    PrepareError::file(
        &path,
        "this build does not read Arrow IPC: build the program with `--features arrow`, or save the table as Parquet, as with `to_parquet` of \
         pandas, `write_parquet` of polars or `pyarrow.parquet.write_table`",
    )
}

/// Reads files of one schema in their order.
#[cfg(feature = "arrow")]
pub(crate) fn read(
    paths: &[PathBuf],
    options: &PrepareOptions,
    progress: Progress<'_>,
) -> Result<RawSource, PrepareError> {
    use crate::dataset::prepare::formats::companions::{edge_rows, node_rows};
    use crate::dataset::prepare::formats::table::space_of;
    use crate::storage::contained::contained;

    let (mut events, mut notices) = (None, Vec::new());
    let Some(first) = paths.first() else { return Err(PrepareError::file(&PathBuf::new(), "no file is named")) };
    for path in paths {
        // The crate panics on some damaged files instead of returning an error; nothing it was working on is used after that.
        let read = contained(|| messages::read_file(path, first, options, events.take(), &mut notices, progress));
        let damaged = || Err(PrepareError::file(path, "the file is damaged: its parts contradict each other"));
        events = Some(read.unwrap_or_else(damaged)?);
    }
    let Some(events) = events else { return Err(PrepareError::file(first, "there are no events")) };
    let features = edge_rows(&first.with_file_name("edge_feat.npy"), &events)?;
    let node_features = node_rows(first.with_file_name("node_feat.npy"), false)?;
    let how = if paths.len() > 1 { format!("{} files in order", paths.len()) } else { "columns by their names".into() };
    let space = space_of(events.columns());
    Ok(RawSource { events, features, node_features, space, how, notices })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_reader_says_how_to_get_it() {
        let refused = refusal(&["a.feather".into()]).to_string();
        assert!(
            refused.starts_with(
                "a.feather: this build does not read Arrow IPC: build the program with `--features arrow`"
            )
        );
    }
}
