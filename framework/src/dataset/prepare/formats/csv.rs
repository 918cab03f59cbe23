//! Text with a header that names the columns, in any order: csv and the like, and RecBole's `.inter` files, whose names have types.
//! `edge_feat.npy` (`[events, E]`) and `node_feat.npy` (`[N, F]`, row `i` for node id `i`) may be next to it; the former replaces feature
//! columns.

use std::path::Path;

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::{Column, Role, by_name, tells_ends};
use crate::dataset::prepare::common::dates;
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::events::number_like;
use crate::dataset::prepare::common::options::{ColumnRoles, Encoding, PrepareOptions, Progress};
use crate::dataset::prepare::common::text::Sniffed;
use crate::dataset::prepare::formats::companions::{edge_rows, node_rows, pass_over_features};
use crate::dataset::prepare::formats::table::{Exactness, Files, Plan, read as read_rows, space_of};

/// Types of RecBole's columns.
const TYPES: [&str; 4] = ["token", "float", "token_seq", "float_seq"];

/// The names of the columns, and where they are written.
pub(crate) struct Header {
    pub(crate) names: Vec<String>,
    /// Whether they are the first row; otherwise they are in a comment, or are the places of the columns.
    pub(crate) row: bool,
}

/// Whether a row holds values: a number or a date is among them.
pub(crate) fn holds_values(row: &[String]) -> bool {
    row.iter().any(|field| number_like(field.as_bytes()) || dates::parse(field.as_bytes()).is_some())
}

/// The names of the columns of a file: its first row, or the last comment before it, or `1`, `2`, `3` where neither names columns.
pub(crate) fn header(sniffed: &Sniffed, said: &ColumnRoles) -> Header {
    let Some(first) = sniffed.rows.first() else { return Header { names: Vec::new(), row: false } };
    let given = [&said.src, &said.dst, &said.time];
    let is_given = |name: &String| given.into_iter().flatten().any(|given| given == name);
    if tells_ends(first)
        || !holds_values(first)
        || first.iter().any(|name| is_given(name) && !number_like(name.as_bytes()))
    {
        return Header { names: first.clone(), row: true };
    }
    if let Some(names) = comment_header(sniffed, first.len()) {
        return Header { names, row: false };
    }
    Header { names: (1..=first.len()).map(|place| place.to_string()).collect(), row: false }
}

/// The names in the last comment before the first row, where it has one for each column and they tell both ends.
pub(crate) fn comment_header(sniffed: &Sniffed, width: usize) -> Option<Vec<String>> {
    let last = sniffed.comments.last()?;
    let by_sign = |sign: &[char]| -> Vec<String> {
        let parts = last.split(sign).map(|name| name.trim().trim_matches('"').to_owned());
        parts.filter(|name| !name.is_empty()).collect()
    };
    [by_sign(&[',', ';', '\t', '|']), by_sign(&[' ', '\t'])]
        .into_iter()
        .find(|names| names.len() == width && tells_ends(names))
}

/// The name of a RecBole column and its type.
pub(crate) fn typed(name: &str) -> Option<(&str, &str)> {
    name.split_once(':').filter(|(_, kind)| TYPES.contains(kind))
}

pub(crate) fn plan(path: &Path, sniffed: &Sniffed, options: &PrepareOptions) -> Result<Plan, PrepareError> {
    let header = header(sniffed, &options.columns);
    let refuse = |fact: String| {
        let fact = if header.row {
            fact
        } else {
            format!("{fact}; the columns have no names, and are called by their places")
        };
        PrepareError::row(path, sniffed.first_row, fact)
    };
    let types: Vec<Option<(&str, &str)>> = header.names.iter().map(|name| typed(name)).collect();
    let names: Vec<String> = header
        .names
        .iter()
        .zip(&types)
        .map(|(name, typed)| typed.map_or(&**name, |(name, _)| name).to_owned())
        .collect();
    let encoding = options.encoding.unwrap_or(Encoding::OneHot);
    let mut columns = by_name(&names, &options.columns, encoding, options.row_order).map_err(refuse)?;
    for (column, typed) in columns.iter_mut().zip(&types) {
        match typed {
            Some((name, "token_seq" | "float_seq")) if column.role == Role::Feature => {
                return Err(refuse(format!(
                    "column `{name}` holds lists, which are no features; --drop {name} leaves it out"
                )));
            }
            Some((name, "token")) if column.role == Role::Feature && column.why.is_empty() => {
                return Err(refuse(format!(
                    "column `{name}` is of the type token: --categorical {name} makes features of its values, --drop {name} leaves it out"
                )));
            }
            _ => {}
        }
    }
    let how = match (header.row, sniffed.comments.is_empty()) {
        (false, false) if columns.iter().any(|column| column.name.parse::<usize>().is_err()) => {
            "names in a comment".into()
        }
        _ => String::new(),
    };
    let space = space_of(&columns);
    Ok(Plan { space, columns, header: header.row, how, notices: Vec::new(), exact: Exactness::default() })
}

pub(crate) fn read(files: Files, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let path = files.first.path().to_owned();
    let mut plan = plan(&path, &files.sniffed, options)?;
    let edge_path = path.with_file_name("edge_feat.npy");
    let notice = if edge_path.exists() { pass_over_features(&mut plan.columns) } else { None };
    let (events, how, mut notices) = read_rows(files, &plan, options, progress)?;
    let features = edge_rows(&edge_path, &events)?;
    let node_features = node_rows(path.with_file_name("node_feat.npy"), false)?;
    notices.splice(0..0, plan.notices.into_iter().chain(notice));
    Ok(RawSource { events, features, node_features, space: plan.space, how, notices })
}

/// RecBole's files are of users and items, whatever their columns are called.
pub(crate) fn read_recbole(
    files: Files,
    options: &PrepareOptions,
    progress: Progress<'_>,
) -> Result<RawSource, PrepareError> {
    let source = read(files, options, progress)?;
    let space = match source.space {
        IdSpace::Ask(..) => IdSpace::Separate("RecBole numbers users and items separately".into()),
        space => space,
    };
    Ok(RawSource { space, ..source })
}

/// The columns of a binary file by their names.
pub(crate) fn named(names: &[String], options: &PrepareOptions) -> Result<Vec<Column>, String> {
    by_name(names, &options.columns, options.encoding.unwrap_or(Encoding::OneHot), options.row_order)
}
