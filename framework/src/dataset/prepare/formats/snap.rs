//! SNAP's text: `u v t` between blanks, comments after `#` (or `%`).

use std::path::Path;

use crate::dataset::prepare::assemble::{IdSpace, Raw};
use crate::dataset::prepare::columns::{ColumnName, RawEvents, Role};
use crate::dataset::prepare::input::Input;
use crate::dataset::prepare::text::{Separator, read_lines};
use crate::dataset::prepare::{PrepareError, PrepareOptions, Progress};

pub(crate) fn read(path: &Path, options: &PrepareOptions, progress: Progress<'_>) -> Result<Raw, PrepareError> {
    let mut input = Input::open(path)?;
    let columns = [("u", Role::Src), ("v", Role::Dst), ("t", Role::Time)]
        .map(|(name, role)| ColumnName { name: name.into(), role });
    let mut events = RawEvents::new(options.time_scale);
    read_lines(&mut input, Separator::Blank, &columns, &mut events, progress)?;
    Ok(Raw { events, features: None, node_features: None, id_space: IdSpace::Shared, notices: Vec::new() })
}
