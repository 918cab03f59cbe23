//! The source to read, and the options for reading it.

use std::path::Path;
use std::str::FromStr;

use crate::settings::nearest::nearest;

/// Called with (bytes read, total bytes) of the events file from time to time while it is read.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A format that can be read. All text formats may be packed with gzip or zstd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// This project's: a header with `src,dst,ts,label` and feature columns, `edge_feat.npy` and `node_feat.npy` next
    /// to it.
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
}

/// A format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format `{name}`{}; the formats are {}", nearest(name, Format::NAMES).map_or(String::new(), |near| format!(" (did you mean `{near}`?)")), Format::NAMES.join(", "))]
pub struct UnknownFormat {
    name: String,
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
    /// says, or if no id is on both sides.
    pub bipartite: Option<bool>,
    /// What to call the set. Otherwise as its file or folder.
    pub name: Option<String>,
}

impl Format {
    /// Every format's name.
    pub const NAMES: [&str; 6] = ["csv", "jodie", "tgn", "tgl", "parquet", "snap"];
    pub(crate) const ALL: [Self; 6] = [Self::Csv, Self::Jodie, Self::Tgn, Self::Tgl, Self::Parquet, Self::Snap];

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

/// A file's name up to its first `.csv`, `.txt` or `.parquet`.
pub(crate) fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let end = [".csv", ".txt", ".parquet"].iter().filter_map(|end| name.find(end)).min();
    name[..end.unwrap_or(name.len())].to_owned()
}
