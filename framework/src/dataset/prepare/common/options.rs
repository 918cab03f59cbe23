//! The source to read, and the options for reading it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::settings::nearest::nearest;

/// Called with (bytes read, total bytes) of the events file from time to time while it is read.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A format that can be read. All text formats may be packed with gzip or zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A header that names the columns, in any order; `edge_feat.npy` and `node_feat.npy` may be next to it.
    Csv,
    /// JODIE's `user_id,item_id,timestamp,state_label,features…`, where users and items have ids of their own.
    Jodie,
    /// `ml_X.csv`, `ml_X.npy` and `ml_X_node.npy` of TGN, TGAT and DyGLib.
    Tgn,
    /// `edges.csv` of TGL, with `edge_features.npy` and `node_features.npy`.
    Tgl,
    /// Parquet with the columns of the CSV.
    Parquet,
    /// Lines of `u v t`, as SNAP's.
    Snap,
    /// KONECT's `u v`, `u v w`, `u v w t` or `u v t w`.
    Konect,
    /// SocioPatterns' `t i j`, perhaps with a class of each node.
    Sociopatterns,
    /// RecBole's `.inter` files, whose header has types: `user_id:token`.
    Recbole,
    /// Arrow IPC, files or streams.
    Arrow,
    /// Edge lists of the Temporal Graph Benchmark, each in the layout of its set.
    Tgb,
}

/// A format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{name}`{}; the formats are {}", nearest(name, Format::NAMES).map_or(String::new(), |near| format!(" (did you mean `{near}`?)")), Format::NAMES.join(", "))]
pub struct UnknownFormat {
    name: String,
}

/// What separates the fields of a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// One byte: a comma, a tab, a semicolon, a bar.
    Byte(u8),
    /// Any number of spaces and tabs.
    Blanks,
}

/// What happens to a row in which a value is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The set is refused, by row and column.
    Refuse,
    /// The row is left out and counted.
    Drop,
    /// A missing feature or label is 0, a missing category none of them; a row without an id or a time is refused.
    Zero,
}

/// How the values of a categorical column become features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// A column for each value, 1 where it is the row's.
    OneHot,
    /// One column: 1 for the first value in the order of the alphabet, 2 for the next; 0 for a missing one.
    Index,
}

/// Which column has which role, by name; columns of files without a header are called `1`, `2`, `3`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnRoles {
    /// The source of the event.
    pub src: Option<String>,
    /// The destination of the event.
    pub dst: Option<String>,
    /// The time of the event.
    pub time: Option<String>,
    /// The label of the event.
    pub label: Option<String>,
    /// When the edge of the event ends, in the unit of its time.
    pub end: Option<String>,
    /// Numbers to predict of the event.
    pub targets: Vec<String>,
    /// The only features. Without it every column of numbers that has no other role is one.
    pub features: Option<Vec<String>>,
    /// Columns that are not read.
    pub drop: Vec<String>,
    /// Features whose values are names and not amounts.
    pub categorical: Vec<String>,
}

/// How to read a source. The default detects everything from the source.
#[derive(Clone, Debug, Default)]
pub struct PrepareOptions {
    /// The format, if it is not to be detected.
    pub format: Option<Format>,
    /// Refuse times that are not sorted, which otherwise are sorted with a notice.
    pub strict: bool,
    /// Ticks in one unit of the source's times. Otherwise the smallest power of ten up to 1e9 that makes all times
    /// whole.
    pub time_scale: Option<u64>,
    /// The unit of the source's times in words.
    pub time_unit: Option<String>,
    /// Whether sources and destinations are two sets of nodes, equal ids notwithstanding. Otherwise as the format
    /// says, or as the names of the columns do, or if no id is on both sides.
    pub bipartite: Option<bool>,
    /// What to call the set. Otherwise as its file or folder.
    pub name: Option<String>,
    /// The roles of columns, where their names do not tell them.
    pub columns: ColumnRoles,
    /// What separates the fields of a text file, if it is not to be detected.
    pub delimiter: Option<Delimiter>,
    /// What happens to missing values; refused unless said.
    pub missing: Option<Missing>,
    /// How categorical columns become features; one column for each value unless said.
    pub encoding: Option<Encoding>,
    /// Keep ids as they are written, also where all are whole numbers.
    pub text_ids: bool,
    /// The events have no time: their order in the file is taken.
    pub row_order: bool,
    /// A TOML file with some of these options by name. Otherwise the one beside the events, if it is there.
    pub columns_file: Option<PathBuf>,
    /// A folder for features that do not fit memory, while they are read. Otherwise the system's temporary folder.
    pub scratch: Option<PathBuf>,
}

impl Format {
    /// Every format's name.
    pub const NAMES: [&str; 11] =
        ["csv", "jodie", "tgn", "tgl", "parquet", "snap", "konect", "sociopatterns", "recbole", "arrow", "tgb"];
    pub(crate) const ALL: [Self; 11] = [
        Self::Csv,
        Self::Jodie,
        Self::Tgn,
        Self::Tgl,
        Self::Parquet,
        Self::Snap,
        Self::Konect,
        Self::Sociopatterns,
        Self::Recbole,
        Self::Arrow,
        Self::Tgb,
    ];

    /// The format's name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| UnknownFormat { name: name.into() })
    }
}

impl Delimiter {
    /// The delimiter in words.
    pub fn name(self) -> String {
        match self {
            Self::Byte(b',') => "commas".into(),
            Self::Byte(b'\t') => "tabs".into(),
            Self::Byte(b';') => "semicolons".into(),
            Self::Byte(b'|') => "bars".into(),
            Self::Byte(byte) => format!("`{}`", byte.escape_ascii()),
            Self::Blanks => "blanks".into(),
        }
    }
}

impl FromStr for Delimiter {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "comma" => Ok(Self::Byte(b',')),
            "tab" | "\\t" => Ok(Self::Byte(b'\t')),
            "semicolon" => Ok(Self::Byte(b';')),
            "bar" | "pipe" => Ok(Self::Byte(b'|')),
            "space" | "spaces" | "blank" | "blanks" | " " => Ok(Self::Blanks),
            other => match *other.as_bytes() {
                [byte] if byte.is_ascii_punctuation() && byte != b'"' || byte == b'\t' => Ok(Self::Byte(byte)),
                _ => Err(format!(
                    "`{other}` is no delimiter: comma, tab, semicolon, bar, spaces, or one sign such as `,`"
                )),
            },
        }
    }
}

impl FromStr for Missing {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "refuse" => Ok(Self::Refuse),
            "drop" => Ok(Self::Drop),
            "zero" => Ok(Self::Zero),
            other => Err(format!("`{other}` is none of refuse, drop, zero")),
        }
    }
}

impl FromStr for Encoding {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "one-hot" => Ok(Self::OneHot),
            "index" => Ok(Self::Index),
            other => Err(format!("`{other}` is neither one-hot nor index")),
        }
    }
}

/// What the names of event files end with.
pub(crate) const ENDINGS: [&str; 12] =
    [".csv", ".tsv", ".txt", ".parquet", ".pq", ".inter", ".arrow", ".feather", ".ipc", ".edges", ".dat", ".ssv"];

/// A file's name up to its first `.csv`, `.txt`, `.parquet` or the like.
pub(crate) fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = ENDINGS.iter().filter_map(|end| name.find(end)).min();
    name[..end.unwrap_or(name.len())].to_owned()
}
