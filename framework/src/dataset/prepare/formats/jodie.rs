//! JODIE's csv: `user_id,item_id,timestamp,state_label,features…`, whose header names all features as one column. The label and the features
//! may be missing. Users and items have ids of their own.

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::{Column, Role, fixed};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::formats::csv::holds_values;
use crate::dataset::prepare::formats::table::{Exactness, Files, Plan, read as read_rows};

const NAMES: [(&str, Role); 4] =
    [("user_id", Role::Src), ("item_id", Role::Dst), ("timestamp", Role::Time), ("state_label", Role::Label)];
/// What the header calls the features.
pub(crate) const FEATURES: &str = "comma_separated_list_of_features";

pub(crate) fn read(files: Files, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let path = files.first.path().to_owned();
    let rows = &files.sniffed.rows;
    let header = rows.first().is_some_and(|row| !holds_values(row));
    if let Some(names) = rows.first().filter(|_| header) {
        for (at, (name, (wanted, _))) in names.iter().zip(NAMES).enumerate() {
            if name != wanted && !(at == 3 && name == FEATURES) && !(at == 3 && name == "label") {
                return Err(PrepareError::row(
                    &path,
                    files.sniffed.first_row,
                    format!(
                        "column {} is `{name}`, and `{wanted}` in JODIE's format; --format csv reads columns by their names",
                        at + 1
                    ),
                ));
            }
        }
    }
    // The first event gives the number of features.
    let Some(width) = rows.get(usize::from(header)).map(Vec::len) else {
        return Err(PrepareError::file(&path, "there are no events"));
    };
    if width < 3 {
        let fact = format!("{width} columns, and user, item and time are three");
        return Err(PrepareError::row(&path, files.sniffed.first_row, fact));
    }
    let space = IdSpace::Separate("JODIE numbers users and items separately".into());
    let (columns, exact) = (columns_of(width), Exactness::default());
    let plan = Plan { columns, header, space: space.clone(), how: String::new(), notices: Vec::new(), exact };
    let (events, how, notices) = read_rows(files, &plan, options, progress)?;
    Ok(RawSource { events, features: None, node_features: None, space, how, notices })
}

fn columns_of(count: usize) -> Vec<Column> {
    let mut columns = fixed(&NAMES[..count.min(4)]);
    columns.extend((4..count).map(|place| Column { name: (place - 4).to_string(), role: Role::Feature, why: "" }));
    columns
}
