//! SNAP's text: `u v t` between blanks, comments after `#` (or `%`).

use std::path::Path;

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::{ColumnName, RawEvents, Role};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::Input;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::common::text::{Separator, read_lines};

pub(crate) fn read(path: &Path, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let mut input = Input::open(path)?;
    let columns = [("u", Role::Src), ("v", Role::Dst), ("t", Role::Time)]
        .map(|(name, role)| ColumnName { name: name.into(), role });
    let mut events = RawEvents::new(options.time_scale);
    read_lines(&mut input, Separator::Blank, &columns, &mut events, progress)?;
    Ok(RawSource { events, features: None, node_features: None, id_space: IdSpace::Shared, notices: Vec::new() })
}
