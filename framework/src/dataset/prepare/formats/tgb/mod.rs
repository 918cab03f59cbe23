//! The edge lists of the Temporal Graph Benchmark (TGB), as its archives hold them.
//!
//! Each set has a layout of its own, which its loader (py-tgb 2.3, `tgb/utils/pre_process.py`) reads by place and not by name. The set is
//! known by the name of its file. Features are those that the loader computes; times are cut to whole numbers as it does, since the fixed
//! negatives are listed by whole times.
//!
//! Differs: `tgbl-uci` and `tgbl-enron` have one kind of nodes here, as their files say; the loader numbers both ends separately. It also
//! takes their column `idx`, the number of the row, for a feature, and has the number of words of `tgbl-comment` twice.

mod airports;

use std::path::Path;

use crate::dataset::prepare::common::assemble::{IdSpace, RawSource};
use crate::dataset::prepare::common::columns::{Column, Computed, Role, fixed, numbers_rows};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::common::text::Sniffed;
use crate::dataset::prepare::formats::csv::holds_values;
use crate::dataset::prepare::formats::table::{Exactness, Files, Plan, read as read_rows};

/// A set of TGB and how its edge list is laid out.
#[derive(Debug)]
struct Set {
    name: &'static str,
    layout: Layout,
    kinds: Kinds,
    /// Unit of its times; empty where they count years.
    unit: &'static str,
}

#[derive(Debug)]
enum Layout {
    /// `source, destination, time, label, features…`, whatever the columns are called.
    Interactions,
    /// Columns at fixed places.
    Columns(&'static [(&'static str, Role)]),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kinds {
    One,
    Two,
}

const WEIGHTED: &[(&str, Role)] =
    &[("time", Role::Time), ("src", Role::Src), ("dst", Role::Dst), ("weight", Role::Computed(Computed::Log2))];
const PLAIN: &[(&str, Role)] =
    &[("time", Role::Time), ("src", Role::Src), ("dst", Role::Dst), ("weight", Role::Feature)];

const SETS: [Set; 13] = [
    Set { name: "tgbl-wiki", layout: Layout::Interactions, kinds: Kinds::Two, unit: "s" },
    Set { name: "tgbl-subreddit", layout: Layout::Interactions, kinds: Kinds::Two, unit: "s" },
    Set { name: "tgbl-lastfm", layout: Layout::Interactions, kinds: Kinds::Two, unit: "s" },
    Set { name: "tgbl-uci", layout: Layout::Interactions, kinds: Kinds::One, unit: "s" },
    Set { name: "tgbl-enron", layout: Layout::Interactions, kinds: Kinds::One, unit: "s" },
    // The benchmark numbers reviewers and products together, and its negatives are of both.
    Set { name: "tgbl-review", layout: Layout::Columns(WEIGHTED), kinds: Kinds::One, unit: "s" },
    Set { name: "tgbl-coin", layout: Layout::Columns(WEIGHTED), kinds: Kinds::One, unit: "s" },
    Set {
        name: "tgbl-comment",
        layout: Layout::Columns(&[
            ("ts", Role::Time),
            ("src", Role::Src),
            ("dst", Role::Dst),
            ("num_words", Role::Computed(Computed::Of5000)),
            ("score", Role::Feature),
        ]),
        kinds: Kinds::One,
        unit: "s",
    },
    Set {
        name: "tgbl-flight",
        layout: Layout::Columns(&[
            ("day", Role::Time),
            ("src", Role::Src),
            ("dst", Role::Dst),
            ("callsign", Role::Computed(Computed::Letters { cut: false })),
            ("typecode", Role::Computed(Computed::Letters { cut: true })),
        ]),
        kinds: Kinds::One,
        unit: "s",
    },
    Set { name: "tgbn-trade", layout: Layout::Columns(PLAIN), kinds: Kinds::One, unit: "" },
    Set { name: "tgbn-genre", layout: Layout::Columns(PLAIN), kinds: Kinds::Two, unit: "s" },
    Set {
        name: "tgbn-reddit",
        layout: Layout::Columns(&[
            ("ts", Role::Time),
            ("src", Role::Src),
            ("subreddit", Role::Dst),
            ("num_words", Role::Ignored),
            ("score", Role::Feature),
        ]),
        kinds: Kinds::Two,
        unit: "s",
    },
    Set {
        name: "tgbn-token",
        layout: Layout::Columns(&[
            ("timestamp", Role::Time),
            ("user_address", Role::Src),
            ("token_address", Role::Dst),
            ("value", Role::Computed(Computed::Ln)),
            ("IsSender", Role::Feature),
        ]),
        kinds: Kinds::Two,
        unit: "s",
    },
];

/// The set whose name begins the name of a file, and the rest of that name.
fn set_of(path: &Path) -> Option<(&'static Set, String)> {
    let name = path.file_name()?.to_string_lossy();
    SETS.iter().find_map(|set| Some((set, name.strip_prefix(set.name)?.to_owned())))
}

/// The name of the set whose edge list a file is, by the file's name.
pub(crate) fn edge_list_of(path: &Path) -> Option<&'static str> {
    set_of(path).filter(|(_, rest)| rest.starts_with("_edgelist")).map(|(set, _)| set.name)
}

/// What a file of TGB is that is no edge list, and what to do.
pub(crate) fn not_events(path: &Path) -> Option<String> {
    let (set, rest) = set_of(path)?;
    rest.starts_with("_node_labels").then(|| {
        format!(
            "the file holds labels of nodes at certain times, and no events; prepare {}_edgelist.csv beside it, whose nodes they are of. \
             The task of predicting them is not among those of this program",
            set.name
        )
    })
}

pub(crate) fn read(files: Files, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let path = files.first.path().to_owned();
    let asked = options.name.as_deref().and_then(|name| SETS.iter().find(|set| set.name == name));
    let Some(set) = asked.or_else(|| set_of(&path).map(|(set, _)| set)) else {
        let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        return Err(PrepareError::file(
            &path,
            format!(
                "each set of TGB has a layout of its own, and the name of the file tells none; --name says which set it is: {}",
                names.join(", ")
            ),
        ));
    };
    let plan = plan(set, &path, &files.sniffed)?;
    let (mut events, how, notices) = read_rows(files, &plan, options, progress)?;
    if !set.unit.is_empty() {
        events.times.set_unit(set.unit);
    }
    let node_features = match set.name {
        "tgbl-flight" => airports::read(&path, &events.ids)?,
        _ => None,
    };
    let how = format!("the edge list of {}, {how}", set.name);
    Ok(RawSource { events, features: None, node_features, space: plan.space, how, notices })
}

fn plan(set: &Set, path: &Path, sniffed: &Sniffed) -> Result<Plan, PrepareError> {
    let refuse = |fact: String| PrepareError::row(path, sniffed.first_row, fact);
    let header = sniffed.rows.first().is_some_and(|row| !holds_values(row));
    let names = sniffed.rows.first().filter(|_| header);
    let Some(first) = sniffed.rows.get(usize::from(header)) else {
        return Err(PrepareError::file(path, "there are no events"));
    };
    let columns = match &set.layout {
        Layout::Interactions => interactions(first.len(), names).map_err(refuse)?,
        Layout::Columns(columns) if columns.len() == first.len() => fixed(columns),
        Layout::Columns(columns) => {
            let wanted: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
            let (found, wanted, count) = (first.len(), wanted.join(","), columns.len());
            return Err(refuse(format!(
                "{found} columns, and the edge list of {} has {count}: {wanted}; --format csv reads columns by their names",
                set.name
            )));
        }
    };
    let space = match set.kinds {
        Kinds::One => IdSpace::One("the benchmark numbers both ends together".into()),
        Kinds::Two => IdSpace::Separate("the benchmark numbers both ends separately".into()),
    };
    // Reviewers and products are whole numbers; the ids of the others are names, addresses and codes.
    let text = matches!(set.layout, Layout::Columns(_)) && set.name != "tgbl-review";
    let exact = Exactness { whole_times: true, ids_as_written: text };
    Ok(Plan { columns, header, space, how: String::new(), notices: Vec::new(), exact })
}

/// The columns of `source, destination, time, label, features…`; a column that numbers the rows is not read.
fn interactions(width: usize, names: Option<&Vec<String>>) -> Result<Vec<Column>, String> {
    if width < 4 {
        return Err(format!("{width} columns, and source, destination, time and label are four"));
    }
    let mut columns = fixed(&[("src", Role::Src), ("dst", Role::Dst), ("time", Role::Time), ("label", Role::Label)]);
    let name = |at: usize| names.filter(|names| names.len() == width).map(|names| names[at].as_str());
    columns.extend((4..width).map(|at| match name(at) {
        Some(name) if numbers_rows(name) => Column { name: name.into(), role: Role::Ignored, why: "numbers the rows" },
        name => Column { name: name.map_or((at - 4).to_string(), str::to_owned), role: Role::Feature, why: "" },
    }));
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_known_by_the_name_of_its_edge_list() {
        let known = |name: &str| edge_list_of(Path::new(name));
        assert_eq!(known("downloads/tgbl-wiki_edgelist_v2.csv"), Some("tgbl-wiki"));
        assert_eq!(known("tgbl-comment_edgelist.csv.gz"), Some("tgbl-comment"));
        assert_eq!(known("tgbl-wiki.csv"), None);
        assert_eq!(known("tgbl-other_edgelist.csv"), None);
        assert!(not_events(Path::new("tgbn-genre_node_labels.csv")).unwrap().contains("tgbn-genre_edgelist.csv"));
    }
}
