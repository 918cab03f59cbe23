//! The files of TGL: `edges.csv` with the columns `,src,dst,time,ext_roll`, and features in `edge_features.npy` (in
//! the row that the unnamed column names) and `node_features.npy`. TGL itself keeps them in `.pt` files, which only
//! Python can read.

use std::path::Path;

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::Role;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::formats::companions::{indexed_edge_rows, node_rows, read_indexed};
use crate::dataset::prepare::formats::table::Files;

pub(crate) fn read(files: Files, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let path = files.first.path().to_owned();
    let (edge_path, node_path) = (path.with_file_name("edge_features.npy"), path.with_file_name("node_features.npy"));
    refuse_pickle(&edge_path)?;
    refuse_pickle(&node_path)?;
    let (events, how, notice) = read_indexed(files, options, progress, |name| match name {
        "" | "Unnamed: 0" => Some(Role::Index),
        name if name.ends_with("_roll") => Some(Role::Ignored),
        _ => None,
    })?;
    let features = indexed_edge_rows(&edge_path, &events, 0)?;
    let node_features = node_rows(node_path, false)?;
    let mut notices = vec!["the split in the roll columns was not kept: splits are chosen when training".into()];
    notices.extend(notice);
    Ok(RawSource { events, features, node_features, space: IdSpace::Shared, how, notices })
}

/// Refuses a `.pt` file that has not been converted to the `.npy` file at `array`.
fn refuse_pickle(array: &Path) -> Result<(), PrepareError> {
    let pickle = array.with_extension("pt");
    if array.exists() || !pickle.exists() {
        return Ok(());
    }
    let name = array.with_extension("");
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    let convert = format!(
        r#"python -c "import numpy, torch; numpy.save('{name}.npy', torch.load('{name}.pt').float().numpy())""#
    );
    Err(PrepareError::file(
        &pickle,
        format!("a pickled tensor, which only Python can read; convert it in its folder with {convert}"),
    ))
}
