//! The files of TGN, TGAT and DyGLib: `ml_X.csv` with the columns `,u,i,ts,label,idx`, `ml_X.npy` with the features of
//! event `idx` in row `idx`, and `ml_X_node.npy`. Ids and indices count from one; row 0 of both arrays is padding.

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::Role;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress, stem};
use crate::dataset::prepare::formats::companions::{indexed_edge_rows, node_rows, read_indexed};
use crate::dataset::prepare::formats::table::Files;

pub(crate) fn read(files: Files, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let path = files.first.path().to_owned();
    let stem = stem(&path);
    let (events, how, notices) = read_indexed(files, options, progress, |name| (name == "idx").then_some(Role::Index))?;
    let features = indexed_edge_rows(&path.with_file_name(format!("{stem}.npy")), &events, 1)?;
    let node_features = node_rows(path.with_file_name(format!("{stem}_node.npy")), true)?;
    Ok(RawSource { events, features, node_features, space: IdSpace::Shared, how, notices })
}
