//! The roles of a source's columns, and the columns as they are read.

use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::input::Line;
use crate::dataset::prepare::common::times::Times;

/// The role of a source's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Src,
    Dst,
    Time,
    Label,
    /// The row of the event in the feature file.
    Index,
    Feature,
    Ignored,
}

/// A column's name and role.
#[derive(Clone, Debug)]
pub(crate) struct ColumnName {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// The events of a source in the order of the source, before anything is sorted or renumbered.
pub(crate) struct RawEvents {
    pub(crate) src: Vec<u64>,
    pub(crate) dst: Vec<u64>,
    pub(crate) times: Times,
    pub(crate) label: Vec<f32>,
    pub(crate) index: Vec<u64>,
    /// Row in the file of the first event that is earlier than one before it.
    pub(crate) disorder_row: Option<u64>,
    /// `[events, width]`.
    pub(crate) features: Vec<f32>,
}

impl Role {
    fn of(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "src" | "source" | "u" | "user" | "user_id" => Role::Src,
            "dst" | "destination" | "target" | "i" | "v" | "item" | "item_id" => Role::Dst,
            "ts" | "t" | "time" | "timestamp" | "unixts" => Role::Time,
            "label" | "state_label" | "y" => Role::Label,
            "" | "idx" | "index" | "unnamed: 0" => Role::Ignored,
            _ => Role::Feature,
        }
    }
}

/// The roles of columns by their names: every other column of numbers is a feature.
pub(crate) fn by_name(names: Vec<String>) -> Result<Vec<ColumnName>, String> {
    let columns: Vec<ColumnName> = names.into_iter().map(|name| ColumnName { role: Role::of(&name), name }).collect();
    for (role, wanted) in [
        (Role::Src, "the source (src, source, u, user_id)"),
        (Role::Dst, "the destination (dst, destination, i, v, item_id)"),
        (Role::Time, "the time (ts, t, time, timestamp)"),
    ] {
        let count = columns.iter().filter(|column| column.role == role).count();
        if count != 1 {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            return Err(format!("{count} of the columns `{}` are {wanted}, not one", names.join(",")));
        }
    }
    Ok(columns)
}

/// Number of features in the events' own columns.
pub(crate) fn feature_width(columns: &[ColumnName]) -> usize {
    columns.iter().filter(|column| column.role == Role::Feature).count()
}

impl RawEvents {
    pub(crate) fn new(time_scale: Option<u64>) -> Self {
        let times = Times::new(time_scale);
        Self {
            src: Vec::new(),
            dst: Vec::new(),
            times,
            label: Vec::new(),
            index: Vec::new(),
            disorder_row: None,
            features: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    /// Appends the event in the fields of one line.
    pub(crate) fn push_row<'a>(
        &mut self,
        line: Line<'_>,
        columns: &[ColumnName],
        fields: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), PrepareError> {
        let mut found = 0;
        for field in fields {
            if let Some(column) = columns.get(found) {
                self.push_field(column, field).map_err(|fact| line.refuse(fact))?;
            }
            found += 1;
        }
        if found != columns.len() {
            return Err(line.refuse(format!("{found} columns, not {}", columns.len())));
        }
        if self.disorder_row.is_none() && self.times.disorder().is_some() {
            self.disorder_row = Some(line.row);
        }
        Ok(())
    }

    fn push_field(&mut self, column: &ColumnName, field: &[u8]) -> Result<(), String> {
        match column.role {
            Role::Src => self.src.push(whole("source", field)?),
            Role::Dst => self.dst.push(whole("destination", field)?),
            Role::Time => self.times.push_text(field)?,
            Role::Label => self.label.push(finite("label", &column.name, field)?),
            Role::Index => self.index.push(whole("index", field)?),
            Role::Feature => self.features.push(finite("feature", &column.name, field)?),
            Role::Ignored => {}
        }
        Ok(())
    }
}

/// A number that is not negative and has no fraction; `7.0` is valid.
fn whole(what: &str, field: &[u8]) -> Result<u64, String> {
    let shown = || String::from_utf8_lossy(field);
    if field.first() == Some(&b'-') {
        return Err(format!("{what} `{}` is negative", shown()));
    }
    let digits = match field.iter().position(|&byte| byte == b'.') {
        Some(point) if field[point + 1..].iter().all(|&byte| byte == b'0') => &field[..point],
        _ => field,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(format!("{what} `{}` is not a whole number", shown()));
    }
    let add = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    digits.iter().try_fold(0, add).ok_or_else(|| format!("{what} `{}` does not fit 64 bits", shown()))
}

fn finite(what: &str, name: &str, field: &[u8]) -> Result<f32, String> {
    let shown = || String::from_utf8_lossy(field);
    let value: Option<f32> = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
    match value {
        Some(value) if value.is_finite() => Ok(value),
        Some(_) => Err(format!("{what} `{name}` is `{}`, which is not finite", shown())),
        None => Err(format!("{what} `{name}` is `{}`, which is not a number", shown())),
    }
}
