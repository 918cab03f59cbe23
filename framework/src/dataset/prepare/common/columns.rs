//! The roles of a source's columns: by what the user says, else by their names.

use crate::dataset::prepare::common::options::{ColumnRoles, Encoding};
use crate::settings::nearest::nearest;

/// The role of a source's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Src,
    Dst,
    Time,
    /// When the edge of the event ends.
    End,
    Label,
    /// A number to predict.
    Target,
    /// The row of the event in the feature file.
    Index,
    Feature,
    /// A feature whose values are names.
    Category(Encoding),
    /// Features that a benchmark computes of a value.
    Computed(Computed),
    Ignored,
}

/// How a benchmark's loader makes features of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Computed {
    /// The logarithm to base 2; that of 0 is 0.
    Log2,
    /// The natural logarithm; that of 0 is 0.
    Ln,
    /// How many times 5000.
    Of5000,
    /// A number for each of eight letters. Longer values are refused, or stand for none if they are `cut`.
    Letters { cut: bool },
}

/// Letters of a value that is read letter by letter.
pub(crate) const LETTERS: usize = 8;

impl Role {
    /// Features that a column with this role becomes while it is read.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Feature | Self::Category(_) => 1,
            Self::Computed(Computed::Letters { .. }) => LETTERS,
            Self::Computed(_) => 1,
            _ => 0,
        }
    }
}

/// A column's name and role, and why it has that role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) why: &'static str,
}

/// What the names of the columns of both ends say about whether equal ids are one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Both ends are of one kind, as `src` and `dst`.
    OneKind,
    /// They are of two, as `user` and `item`.
    TwoKinds,
    /// The names do not say.
    Unknown,
}

const SRC: [&str; 24] = [
    "src",
    "source",
    "src_id",
    "source_id",
    "srcid",
    "sourceid",
    "src_node",
    "source_node",
    "u",
    "from",
    "from_id",
    "fromid",
    "fromnodeid",
    "from_node",
    "from_node_id",
    "sender",
    "sender_id",
    "head",
    "node1",
    "node_1",
    "id1",
    "id_1",
    "node_u",
    "follower",
];
const DST: [&str; 28] = [
    "dst",
    "destination",
    "target",
    "dst_id",
    "destination_id",
    "target_id",
    "dstid",
    "targetid",
    "dst_node",
    "target_node",
    "v",
    "to",
    "to_id",
    "toid",
    "tonodeid",
    "to_node",
    "to_node_id",
    "receiver",
    "receiver_id",
    "recipient",
    "recipient_id",
    "tail",
    "node2",
    "node_2",
    "id2",
    "id_2",
    "node_v",
    "followee",
];
const USER: [&str; 6] = ["user", "user_id", "userid", "uid", "customer", "customer_id"];
const ITEM: [&str; 14] = [
    "item",
    "item_id",
    "itemid",
    "iid",
    "product",
    "product_id",
    "productid",
    "movie",
    "movie_id",
    "movieid",
    "page",
    "page_id",
    "article_id",
    "business_id",
];
const TIME: [&str; 20] = [
    "ts",
    "t",
    "time",
    "timestamp",
    "unixts",
    "unix_ts",
    "unixtime",
    "unix_time",
    "unix_timestamp",
    "datetime",
    "date_time",
    "date",
    "when",
    "event_time",
    "eventtime",
    "event_timestamp",
    "timestamps",
    "created_at",
    "occurred_at",
    "time_stamp",
];
const LABEL: [&str; 2] = ["label", "state_label"];
const COUNTER: [&str; 14] = [
    "",
    "idx",
    "index",
    "id",
    "event_id",
    "eventid",
    "edge_id",
    "edgeid",
    "row",
    "row_id",
    "rowid",
    "row_number",
    "rownum",
    "__index_level_0__",
];

/// Why a column that only numbers the rows is not read.
pub(crate) const COUNTS: &str = "numbers the rows";

fn plain(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace([' ', '-'], "_")
}

/// Whether a column of that name numbers the rows.
pub(crate) fn numbers_rows(name: &str) -> bool {
    is_counter(&plain(name))
}

fn is_counter(name: &str) -> bool {
    COUNTER.contains(&name) || name.starts_with("unnamed:_")
}

/// Whether the names of a first line may be those of columns: they tell both ends.
pub(crate) fn tells_ends(names: &[String]) -> bool {
    let names: Vec<String> = names.iter().map(|name| plain(name)).collect();
    let ij = names.iter().any(|name| name == "j");
    let src = |name: &String| SRC.contains(&name.as_str()) || USER.contains(&name.as_str()) || ij && name == "i";
    let dst = |name: &String| {
        DST.contains(&name.as_str()) || ITEM.contains(&name.as_str()) || name == "j" || !ij && name == "i"
    };
    names.iter().any(src) && names.iter().any(dst)
}

/// The columns of a file by the names in its header.
///
/// What the user says goes first. Then a column with one of a role's names has the role; two of them are refused. `y` is the label unless
/// there is an `x`. Columns that number the rows are not read. All others are features.
pub(crate) fn by_name(
    names: &[String],
    said: &ColumnRoles,
    encoding: Encoding,
    no_time: bool,
) -> Result<Vec<Column>, String> {
    let shown = names.join(",");
    for (at, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        if names[..at].contains(name) {
            return Err(format!("two of the columns `{shown}` are called `{name}`; give each a name of its own"));
        }
    }
    let mut columns: Vec<Option<Column>> = vec![None; names.len()];
    let mut put = |name: &str, role: Role, why| -> Result<(), String> {
        let at = find(names, name)?;
        match &columns[at] {
            Some(other) if other.role != role => {
                Err(format!("column `{name}` is given two roles: {} and {}", words(other.role), words(role)))
            }
            _ => {
                columns[at] = Some(Column { name: names[at].clone(), role, why });
                Ok(())
            }
        }
    };
    for (name, role, why) in [
        (&said.src, Role::Src, "as --src says"),
        (&said.dst, Role::Dst, "as --dst says"),
        (&said.time, Role::Time, "as --ts says"),
        (&said.label, Role::Label, "as --label says"),
        (&said.end, Role::End, "as --end says"),
    ] {
        name.as_ref().map_or(Ok(()), |name| put(name, role, why))?;
    }
    said.targets.iter().try_for_each(|name| put(name, Role::Target, "as --target says"))?;
    said.drop.iter().try_for_each(|name| put(name, Role::Ignored, "as --drop says"))?;
    said.categorical.iter().try_for_each(|name| put(name, Role::Category(encoding), "as --categorical says"))?;
    for name in said.features.iter().flatten().filter(|name| !said.categorical.contains(name)) {
        put(name, Role::Feature, "as --features says")?;
    }
    let originals = names;
    let names: Vec<String> = names.iter().map(|name| plain(name)).collect();
    let has = |name: &str| names.iter().any(|other| other == name);
    let (ij, xy) = (has("j"), has("x"));
    let candidates = |columns: &[Option<Column>], test: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..names.len()).filter(|&at| columns[at].is_none() && test(&names[at])).collect()
    };
    type Test<'a> = &'a dyn Fn(&str) -> bool;
    let roles: [(Role, &str, &str, Test<'_>); 4] = [
        (Role::Src, "the source", "--src", &|name| SRC.contains(&name) || USER.contains(&name) || ij && name == "i"),
        (Role::Dst, "the destination", "--dst", &|name| {
            DST.contains(&name) || ITEM.contains(&name) || name == "j" || !ij && name == "i"
        }),
        (Role::Time, "the time", "--ts", &|name| TIME.contains(&name)),
        (Role::Label, "the label", "--label", &|name| LABEL.contains(&name) || name == "y" && !xy),
    ];
    for (role, what, flag, test) in roles {
        if columns.iter().flatten().any(|column| column.role == role) || no_time && role == Role::Time {
            continue;
        }
        match candidates(&columns, test)[..] {
            [at] => columns[at] = Some(Column { name: String::new(), role, why: "by its name" }),
            [] if role == Role::Label => {}
            [] => {
                let rows = if role == Role::Time { ", or --row-order takes the order of the rows" } else { "" };
                return Err(format!("0 of the columns `{shown}` are {what}, not one; {flag} NAME says which is{rows}"));
            }
            ref several => {
                let several: Vec<&str> = several.iter().map(|&at| names[at].as_str()).collect();
                return Err(format!(
                    "{} of the columns `{shown}` are {what}, not one: `{}`; {flag} NAME says which is, --drop NAME leaves one out",
                    several.len(),
                    several.join("` and `")
                ));
            }
        }
    }
    let decide = |(at, column): (usize, Option<Column>)| {
        let name = originals[at].clone();
        match column {
            Some(column) if column.name.is_empty() => Column { name, ..column },
            Some(column) => column,
            None if is_counter(&names[at]) => Column { name, role: Role::Ignored, why: COUNTS },
            None if said.features.is_some() => Column { name, role: Role::Ignored, why: "not among --features" },
            None => Column { name, role: Role::Feature, why: "" },
        }
    };
    Ok(columns.into_iter().enumerate().map(decide).collect())
}

/// The place of a name that the user gave.
fn find(names: &[String], name: &str) -> Result<usize, String> {
    let same = |other: &String| other.trim().eq_ignore_ascii_case(name.trim());
    names.iter().position(|other| other == name).or_else(|| names.iter().position(same)).ok_or_else(|| {
        let near = nearest(name, names.iter().map(String::as_str))
            .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
        format!("there is no column `{name}`{near}; the columns are `{}`", names.join(","))
    })
}

/// What the names of both ends say.
pub(crate) fn ends(columns: &[Column]) -> Ends {
    let name = |role| columns.iter().find(|column| column.role == role).map(|column| plain(&column.name));
    let (Some(src), Some(dst)) = (name(Role::Src), name(Role::Dst)) else { return Ends::Unknown };
    let (one, two) = (SRC.contains(&src.as_str()) || src == "i", DST.contains(&dst.as_str()) || dst == "j");
    if USER.contains(&src.as_str()) && ITEM.contains(&dst.as_str()) {
        Ends::TwoKinds
    } else if one && two || kind(&src) == kind(&dst) {
        Ends::OneKind
    } else {
        Ends::Unknown
    }
}

/// What remains of a name without what says which end it is: `source_user` and `target_user`, `user_1` and `user_2`.
fn kind(name: &str) -> String {
    let sides = ["src", "source", "dst", "destination", "target", "from", "to", "1", "2", "a", "b", "other", "id"];
    let parts: Vec<&str> = name.split('_').filter(|part| !sides.contains(part)).collect();
    parts.join("_").trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
}

/// A role in words.
pub(crate) fn words(role: Role) -> &'static str {
    match role {
        Role::Src => "source",
        Role::Dst => "destination",
        Role::Time => "time",
        Role::End => "end of the edge",
        Role::Label => "label",
        Role::Target => "target",
        Role::Index => "row of the features",
        Role::Feature => "feature",
        Role::Category(Encoding::OneHot) => "categories, a feature each",
        Role::Category(Encoding::Index) => "categories, one feature",
        Role::Computed(Computed::Log2) => "a feature, its logarithm to base 2",
        Role::Computed(Computed::Ln) => "a feature, its natural logarithm",
        Role::Computed(Computed::Of5000) => "a feature, divided by 5000",
        Role::Computed(Computed::Letters { .. }) => "eight features, a number for each letter",
        Role::Ignored => "not read",
    }
}

/// Columns with these roles and names, of a format whose columns have fixed places.
pub(crate) fn fixed(columns: &[(&str, Role)]) -> Vec<Column> {
    columns.iter().map(|&(name, role)| Column { name: name.into(), role, why: "by its place" }).collect()
}
