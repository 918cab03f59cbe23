//! This project's CSV: a header with `src,dst,ts,label` (or names that mean the same, in any order; the label may be
//! missing) and any number of feature columns. `edge_feat.npy` (`[events, E]`) and `node_feat.npy` (`[N, F]`, row `i`
//! for node id `i`) may be next to it; the former replaces feature columns.

use std::path::Path;

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::{ColumnName, RawEvents, Role, by_name};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::Input;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::common::text::{Separator, header, own_features, read_lines};
use crate::dataset::prepare::formats::companions::{edge_rows, node_rows};

pub(crate) fn read(path: &Path, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let mut input = Input::open(path)?;
    let header = header(&mut input, path, &mut *progress)?;
    let mut columns = by_name(header).map_err(|fact| PrepareError::row(path, 1, fact))?;
    let edge_path = path.with_file_name("edge_feat.npy");
    let notice = if edge_path.exists() { pass_over_features(&mut columns) } else { None };
    let mut events = RawEvents::new(options.time_scale);
    read_lines(&mut input, Separator::Comma, &columns, &mut events, progress)?;
    let features = match edge_rows(&edge_path, events.len())? {
        None => own_features(&mut events, &columns),
        beside => beside,
    };
    let node_features = node_rows(path.with_file_name("node_feat.npy"), false)?;
    Ok(RawSource { events, features, node_features, id_space: IdSpace::Shared, notices: notice.into_iter().collect() })
}

fn pass_over_features(columns: &mut [ColumnName]) -> Option<String> {
    let mut names = Vec::new();
    for column in columns.iter_mut().filter(|column| column.role == Role::Feature) {
        column.role = Role::Ignored;
        names.push(column.name.as_str());
    }
    (!names.is_empty())
        .then(|| format!("the features are those of edge_feat.npy; the columns `{}` were passed over", names.join(",")))
}
