//! Arrow IPC: not among what this build reads.

use std::path::PathBuf;

use crate::dataset::prepare::common::assemble::RawSource;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};

pub(crate) fn read(paths: &[PathBuf], _: &PrepareOptions, _: Progress<'_>) -> Result<RawSource, PrepareError> {
    let path = paths.first().cloned().unwrap_or_default();
    Err(PrepareError::file(
        &path,
        "Arrow IPC is not read; save the table as Parquet, as with `pyarrow.parquet.write_table`",
    ))
}
