//! JODIE's csv: `user_id,item_id,timestamp,state_label,features…`, whose header names all features as one column.
//! Users and items have ids of their own. TGB's `tgbl-wiki` edge list is in this format too.

use std::path::Path;

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::{ColumnName, RawEvents, Role};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::Input;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::common::text::{Separator, header, own_features, read_lines};

pub(crate) fn read(path: &Path, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let mut input = Input::open(path)?;
    header(&mut input, path, &mut *progress)?;
    let mut events = RawEvents::new(options.time_scale);
    let mut columns = Vec::new();
    // The first event gives the number of features.
    if let Some(line) = input.next_line(&mut *progress)? {
        columns = columns_of(line.by_comma().count());
        events.push_row(line, &columns, line.by_comma())?;
    }
    read_lines(&mut input, Separator::Comma, &columns, &mut events, progress)?;
    let features = own_features(&mut events, &columns);
    Ok(RawSource { events, features, node_features: None, id_space: IdSpace::Separate, notices: Vec::new() })
}

fn columns_of(count: usize) -> Vec<ColumnName> {
    let named =
        [("user_id", Role::Src), ("item_id", Role::Dst), ("timestamp", Role::Time), ("state_label", Role::Label)];
    let named = named.map(|(name, role)| ColumnName { name: name.into(), role });
    let features = (4..count).map(|column| ColumnName { name: (column - 4).to_string(), role: Role::Feature });
    named.into_iter().chain(features).collect()
}
