//! The events of a source as they are read, row by row.

use std::path::Path;

use tempograph_kernels::Rows;

use crate::dataset::Table;
use crate::dataset::prepare::common::columns::{Column, Computed, LETTERS, Role};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::features::{Categories, FeatureSink, MOST_INDEXED, MOST_ONE_HOT};
use crate::dataset::prepare::common::ids::Ids;
use crate::dataset::prepare::common::options::{Encoding, Missing, PrepareOptions};
use crate::dataset::prepare::common::times::Times;
use crate::settings::count::{counted, were};

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// A null of a file that has them.
    Missing,
    /// A value as written.
    Text(&'a [u8]),
    /// A whole number.
    Whole(i128),
    /// A binary float.
    Float(f64),
    /// `0 / 10^1`: a decimal number.
    Decimal(i128, u32),
}

/// The events of a source in the order of the source, before anything is sorted or renumbered.
pub(crate) struct RawEvents {
    columns: Vec<Column>,
    pub(crate) src: Vec<u32>,
    pub(crate) dst: Vec<u32>,
    pub(crate) times: Times,
    /// Empty where there are no labels.
    pub(crate) label: Vec<f32>,
    /// Where labels are words: their values.
    classes: Option<Categories>,
    pub(crate) index: Vec<u64>,
    /// Row in the file of the first event that is earlier than one before it.
    pub(crate) disorder_row: Option<u64>,
    pub(crate) ids: Ids,
    features: FeatureSink,
    /// By column.
    categories: Vec<Categories>,
    rounded: Vec<Rounded>,
    missing: Missing,
    row_order: bool,
    dropped: u64,
    first_dropped: Option<(u64, String)>,
    zeroed: u64,
    staged: Vec<f32>,
    targets: FeatureSink,
    staged_targets: Vec<f32>,
    folder: std::path::PathBuf,
    /// Of ids only an empty field is missing.
    ids_as_written: bool,
}

/// Whole numbers that 32-bit floats do not hold.
#[derive(Default)]
struct Rounded {
    count: u64,
    first: Option<(u64, String)>,
}

/// What a value is where it is not what it should be.
enum Fault {
    Missing,
    Wrong(String),
}

impl From<String> for Fault {
    fn from(fact: String) -> Self {
        Self::Wrong(fact)
    }
}

/// The features of the events' own columns.
pub(crate) struct OwnFeatures {
    pub(crate) table: Option<(Table, bool)>,
    pub(crate) names: Vec<String>,
}

impl RawEvents {
    pub(crate) fn new(columns: Vec<Column>, options: &PrepareOptions) -> Self {
        let folder = options.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let width = columns.iter().map(|column| column.role.width()).sum();
        let timed = columns.iter().any(|column| column.role == Role::Time);
        let count = columns.len();
        let targets = columns.iter().filter(|column| column.role == Role::Target).count();
        Self {
            columns,
            src: Vec::new(),
            dst: Vec::new(),
            times: Times::new(options.time_scale),
            label: Vec::new(),
            classes: None,
            index: Vec::new(),
            disorder_row: None,
            ids: Ids::new(options.text_ids),
            features: FeatureSink::new(width, &folder),
            categories: (0..count).map(|_| Categories::default()).collect(),
            rounded: (0..count).map(|_| Rounded::default()).collect(),
            missing: options.missing.unwrap_or(Missing::Refuse),
            row_order: !timed,
            dropped: 0,
            first_dropped: None,
            zeroed: 0,
            staged: Vec::new(),
            targets: FeatureSink::new(targets, &folder),
            staged_targets: Vec::new(),
            folder,
            ids_as_written: false,
        }
    }

    /// Takes ids as text that is written, whatever it looks like.
    pub(crate) fn keep_ids_as_written(&mut self) {
        self.ids = Ids::new(true);
        self.ids_as_written = true;
    }

    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }

    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Rows read, those that were left out among them.
    pub(crate) fn rows(&self) -> u64 {
        self.len() as u64 + self.dropped
    }

    /// Appends the event in a row of cells, one for each column.
    pub(crate) fn push<'a>(
        &mut self,
        path: &Path,
        row: u64,
        cell: impl Fn(usize) -> Cell<'a>,
    ) -> Result<(), PrepareError> {
        let columns = std::mem::take(&mut self.columns);
        let done = self.push_cells(&columns, row, &cell);
        self.columns = columns;
        match done {
            Ok(true) => {
                if self.features.width() > 0 {
                    self.features.push(&self.staged)?;
                }
                if self.targets.width() > 0 {
                    self.targets.push(&self.staged_targets)?;
                }
                if self.disorder_row.is_none() && self.times.disorder().is_some() {
                    self.disorder_row = Some(row);
                }
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(fact) => Err(PrepareError::row(path, row, fact)),
        }
    }

    /// Whether the row was kept.
    fn push_cells<'a>(
        &mut self,
        columns: &[Column],
        row: u64,
        cell: &impl Fn(usize) -> Cell<'a>,
    ) -> Result<bool, String> {
        self.staged.clear();
        self.staged_targets.clear();
        let (mut src, mut dst, mut label, mut index, mut time, mut end) = (0, 0, None, None, None, None);
        for (at, column) in columns.iter().enumerate() {
            let value = match column.role {
                Role::Ignored => continue,
                Role::Time => {
                    time = Some(at);
                    if is_missing(cell(at), false) { Err(Fault::Missing) } else { Ok(()) }
                }
                Role::End => {
                    end = Some(at);
                    if is_missing(cell(at), false) { Err(Fault::Missing) } else { Ok(()) }
                }
                Role::Target => {
                    self.number(at, row, "target", cell(at), &column.name).map(|value| self.staged_targets.push(value))
                }
                Role::Src => self.id("source", cell(at)).map(|id| src = id),
                Role::Dst => self.id("destination", cell(at)).map(|id| dst = id),
                Role::Label => self.label(at, row, cell(at), &column.name).map(|value| label = Some(value)),
                Role::Index => whole("index", cell(at)).map(|value| index = Some(value)),
                Role::Feature => {
                    self.number(at, row, "feature", cell(at), &column.name).map(|value| self.staged.push(value))
                }
                Role::Category(encoding) => {
                    self.category(at, cell(at), encoding).map(|value| self.staged.push(value as f32))
                }
                Role::Computed(computed) => self.computed(at, row, computed, cell(at), &column.name),
            };
            match value {
                Ok(()) => {}
                Err(Fault::Wrong(fact)) if matches!(column.role, Role::Src | Role::Dst | Role::Index) => {
                    return Err(if column.name.is_empty() {
                        fact
                    } else {
                        format!("{fact} (column `{}`)", column.name)
                    });
                }
                Err(Fault::Wrong(fact)) => return Err(fact),
                Err(Fault::Missing) if self.missing == Missing::Drop => {
                    self.dropped += 1;
                    self.first_dropped.get_or_insert_with(|| (row, column.name.clone()));
                    return Ok(false);
                }
                Err(Fault::Missing) => self.put_zero(column, cell(at), &mut label)?,
            }
        }
        match time {
            Some(at) => self.push_time(cell(at)).map_err(|fact| format!("{fact} (column `{}`)", columns[at].name))?,
            None => self.times.push_whole(self.src.len() as i64)?,
        }
        if let Some(at) = end {
            self.push_end(cell(at)).map_err(|fact| format!("{fact} (column `{}`)", columns[at].name))?;
        }
        self.src.push(src);
        self.dst.push(dst);
        self.label.extend(label);
        self.index.extend(index);
        Ok(true)
    }

    /// A missing value of a column where rows are not left out for it.
    fn put_zero(&mut self, column: &Column, cell: Cell<'_>, label: &mut Option<f32>) -> Result<(), String> {
        let shown = match cell {
            Cell::Text(text) => format!("`{}`", String::from_utf8_lossy(text)),
            Cell::Float(value) => format!("`{value}`"),
            _ => "null".into(),
        };
        let what = super::columns::words(column.role);
        let what = if matches!(column.role, Role::Category(_)) { "category" } else { what };
        let given = matches!(column.role, Role::Label | Role::Target) || column.role.width() > 0;
        if self.missing != Missing::Zero || !given {
            let zero = if given { ", --missing zero reads it as 0" } else { "" };
            return Err(format!(
                "{what} `{}` is missing ({shown}); --missing drop leaves such rows out{zero}",
                column.name
            ));
        }
        self.zeroed += 1;
        match column.role {
            Role::Label => *label = Some(0.0),
            Role::Target => self.staged_targets.push(0.0),
            _ => self.staged.push(0.0),
        }
        Ok(())
    }

    fn id(&mut self, what: &str, cell: Cell<'_>) -> Result<u32, Fault> {
        let wrong = |fact: String| Fault::Wrong(format!("{what} {fact}"));
        match cell {
            Cell::Text(text) if self.ids_as_written && !text.is_empty() => self.ids.number(text).map_err(wrong),
            _ if is_missing(cell, true) => Err(Fault::Missing),
            Cell::Text(text) => self.ids.number(text).map_err(wrong),
            Cell::Whole(value) => match u64::try_from(value) {
                Ok(value) => self.ids.number_whole(value).map_err(wrong),
                Err(_) => self.ids.number(value.to_string().as_bytes()).map_err(wrong),
            },
            Cell::Float(value) if value.fract() == 0.0 && value.abs() >= 9_007_199_254_740_992.0 => {
                Err(wrong(format!("`{value}` is a float too large to be exact; write ids as integers or as text")))
            }
            Cell::Float(value) => self.ids.number(value.to_string().as_bytes()).map_err(wrong),
            Cell::Decimal(mantissa, decimals) => self.ids.number(decimal(mantissa, decimals).as_bytes()).map_err(wrong),
            Cell::Missing => Err(Fault::Missing),
        }
    }

    fn push_time(&mut self, cell: Cell<'_>) -> Result<(), String> {
        match cell {
            Cell::Text(text) => self.times.push_text(text),
            Cell::Whole(value) => match i64::try_from(value) {
                Ok(value) => self.times.push_whole(value),
                Err(_) => self.times.push_text(value.to_string().as_bytes()),
            },
            Cell::Float(value) => self.times.push_float(value),
            Cell::Decimal(mantissa, decimals) => self.times.push_text(decimal(mantissa, decimals).as_bytes()),
            Cell::Missing => Err("the time is missing".into()),
        }
    }

    fn push_end(&mut self, cell: Cell<'_>) -> Result<(), String> {
        match cell {
            Cell::Text(text) => self.times.push_end(text),
            Cell::Whole(value) => self.times.push_end(value.to_string().as_bytes()),
            Cell::Float(value) => self.times.push_end(value.to_string().as_bytes()),
            Cell::Decimal(mantissa, decimals) => self.times.push_end(decimal(mantissa, decimals).as_bytes()),
            Cell::Missing => Err("the end is missing".into()),
        }
    }

    fn label(&mut self, at: usize, row: u64, cell: Cell<'_>, name: &str) -> Result<f32, Fault> {
        if is_missing(cell, false) {
            return Err(Fault::Missing);
        }
        if let Cell::Text(text) = cell {
            let word =
                || !number_like(text) && !text.eq_ignore_ascii_case(b"inf") && !text.eq_ignore_ascii_case(b"-inf");
            if self.classes.is_none() && self.label.is_empty() && word() {
                self.classes = Some(Categories::default());
            }
            if let Some(classes) = &mut self.classes {
                return classes.number(text, MOST_INDEXED).map(|class| class as f32).map_err(Fault::Wrong);
            }
        }
        self.number(at, row, "label", cell, name)
    }

    fn category(&mut self, at: usize, cell: Cell<'_>, encoding: Encoding) -> Result<u32, Fault> {
        if is_missing(cell, false) {
            return Err(Fault::Missing);
        }
        let most = if encoding == Encoding::OneHot { MOST_ONE_HOT } else { MOST_INDEXED };
        let categories = &mut self.categories[at];
        let name = &|fact: String| Fault::Wrong(format!("category {fact}"));
        match cell {
            Cell::Text(text) => categories.number(text, most).map_err(name),
            Cell::Whole(value) => categories.number(value.to_string().as_bytes(), most).map_err(name),
            Cell::Float(value) => categories.number(value.to_string().as_bytes(), most).map_err(name),
            Cell::Decimal(mantissa, decimals) => {
                categories.number(decimal(mantissa, decimals).as_bytes(), most).map_err(name)
            }
            Cell::Missing => Err(Fault::Missing),
        }
    }

    /// The features that a benchmark computes of a value. They are computed in 64 bits, as there.
    fn computed(&mut self, at: usize, row: u64, computed: Computed, cell: Cell<'_>, name: &str) -> Result<(), Fault> {
        let text = match cell {
            Cell::Text(text) => String::from_utf8_lossy(text),
            _ => Default::default(),
        };
        if let Computed::Letters { cut } = computed {
            let count = text.chars().count();
            if count > LETTERS && !cut {
                return Err(Fault::Wrong(format!("`{name}` is `{text}`; at most {LETTERS} letters are read of it")));
            }
            self.staged.extend(letters(if count > LETTERS { "" } else { &text }, LETTERS));
            return Ok(());
        }
        let value = match text.parse::<f64>() {
            Ok(value) if value.is_finite() => value,
            _ => f64::from(self.number(at, row, "feature", cell, name)?),
        };
        let one_for_zero = if value == 0.0 { 1.0 } else { value };
        let value = match computed {
            Computed::Log2 => one_for_zero.log2(),
            Computed::Ln => one_for_zero.ln(),
            Computed::Of5000 | Computed::Letters { .. } => value / 5000.0,
        };
        let single = value as f32;
        if !single.is_finite() {
            let made = super::columns::words(Role::Computed(computed));
            return Err(Fault::Wrong(format!(
                "feature `{name}` is `{text}`, and {made}, is not a finite 32-bit float"
            )));
        }
        self.staged.push(single);
        Ok(())
    }

    /// A number as a 32-bit float.
    fn number(&mut self, at: usize, row: u64, what: &str, cell: Cell<'_>, name: &str) -> Result<f32, Fault> {
        let infinite = |shown: String| Fault::Wrong(format!("{what} `{name}` is `{shown}`, which is not finite"));
        let value = match cell {
            Cell::Missing => return Err(Fault::Missing),
            Cell::Text(text) => {
                let Some(value) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f32>().ok()) else {
                    return if is_missing(cell, false) {
                        Err(Fault::Missing)
                    } else {
                        word(what, name, text).map_err(Fault::Wrong)
                    };
                };
                if value.is_nan() {
                    return Err(Fault::Missing);
                }
                if !value.is_finite() {
                    return Err(infinite(String::from_utf8_lossy(text).into_owned()));
                }
                if text.len() > 7 {
                    let exact = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
                    if exact.is_some_and(|exact| value as i64 != exact) {
                        self.rounded[at].count += 1;
                        let shown = || (row, String::from_utf8_lossy(text).into_owned());
                        self.rounded[at].first.get_or_insert_with(shown);
                    }
                }
                value
            }
            Cell::Whole(exact) => {
                let value = exact as f32;
                if value as i128 != exact {
                    self.rounded[at].count += 1;
                    self.rounded[at].first.get_or_insert_with(|| (row, exact.to_string()));
                }
                value
            }
            Cell::Float(value) if value.is_nan() => return Err(Fault::Missing),
            Cell::Float(value) => {
                let single = value as f32;
                if !single.is_finite() {
                    return Err(infinite(value.to_string()));
                }
                single
            }
            Cell::Decimal(mantissa, decimals) => (mantissa as f64 / 10f64.powi(decimals as i32)) as f32,
        };
        Ok(value)
    }

    /// What the user should know about the values.
    pub(crate) fn notices(&self) -> Vec<String> {
        let mut notices = self.times.notices();
        if let Some((row, column)) = &self.first_dropped {
            notices.push(format!(
                "{} with missing values {} left out, the first row {row}, where `{column}` is missing",
                counted(self.dropped, "row"),
                were(self.dropped)
            ));
        }
        if self.zeroed > 0 {
            notices.push(format!("{} {} read as 0", counted(self.zeroed, "missing value"), were(self.zeroed)));
        }
        for (column, rounded) in self.columns.iter().zip(&self.rounded) {
            if let Some((row, value)) = &rounded.first {
                notices.push(format!(
                    "{} of `{}`, the first `{value}` in row {row}, rounded: features are 32-bit floats, exact for whole numbers up to 16777216; --categorical {} keeps values apart, --drop {} leaves them out",
                    counted(rounded.count, "value"), column.name, column.name, column.name
                ));
            }
        }
        if self.row_order {
            notices.push("no column is the time: the order of the rows is taken, one tick a row".into());
        }
        if let Some(id) = &self.ids.text_because {
            notices.push(format!("ids are kept as text, since `{id}` is no whole number"));
        }
        notices
    }

    /// The classes of labels that are words: the label is the place among them from 0.
    pub(crate) fn take_classes(&mut self) -> Vec<String> {
        let Some(classes) = self.classes.take() else { return Vec::new() };
        let (names, places) = classes.sorted();
        for label in &mut self.label {
            *label = (places[*label as usize].max(1) - 1) as f32;
        }
        names
    }

    /// Numbers to predict of the events, and their names.
    pub(crate) fn take_targets(&mut self) -> Result<OwnFeatures, PrepareError> {
        let targets = self.columns.iter().filter(|column| column.role == Role::Target);
        let names = targets.map(|column| column.name.clone()).collect();
        let sink = std::mem::replace(&mut self.targets, FeatureSink::new(0, &self.folder));
        Ok(OwnFeatures { table: sink.finish()?, names })
    }

    /// Features of the events' own columns, a column for each category where that was said.
    pub(crate) fn take_features(&mut self) -> Result<OwnFeatures, PrepareError> {
        let mut shape = Vec::new();
        let mut names = Vec::new();
        for (at, column) in self.columns.iter().enumerate() {
            match column.role {
                Role::Feature => {
                    shape.push(Shape::Number);
                    names.push(column.name.clone());
                }
                Role::Computed(Computed::Letters { .. }) => {
                    shape.extend((0..LETTERS).map(|_| Shape::Number));
                    names.extend((1..=LETTERS).map(|letter| format!("{} {letter}", column.name)));
                }
                Role::Computed(_) => {
                    shape.push(Shape::Number);
                    names.push(column.name.clone());
                }
                Role::Category(encoding) => {
                    let (values, places) = self.categories[at].sorted();
                    if encoding == Encoding::OneHot {
                        names.extend(values.iter().map(|value| format!("{}={value}", column.name)));
                        shape.push(Shape::OneHot(places, values.len()));
                    } else {
                        names.push(column.name.clone());
                        shape.push(Shape::Index(places));
                    }
                }
                _ => {}
            }
        }
        let sink = std::mem::replace(&mut self.features, FeatureSink::new(0, &self.folder));
        let raw = sink.finish()?;
        let plain = shape.iter().all(|shape| matches!(shape, Shape::Number));
        let Some((table, _)) = raw.as_ref().filter(|_| !plain) else { return Ok(OwnFeatures { table: raw, names }) };
        let mut sink = FeatureSink::new(names.len(), &self.folder);
        let mut row = Vec::with_capacity(names.len());
        for event in 0..table.rows() as u64 {
            row.clear();
            for (shape, &value) in shape.iter().zip(table.row(event)) {
                match shape {
                    Shape::Number => row.push(value),
                    Shape::Index(places) => row.push(places[value as usize] as f32),
                    Shape::OneHot(places, width) => {
                        let place = places[value as usize] as usize;
                        row.extend((1..=*width).map(|at| f32::from(u8::from(at == place))));
                    }
                }
            }
            sink.push(&row)?;
        }
        Ok(OwnFeatures { table: sink.finish()?, names })
    }
}

/// How a value that was read becomes features.
enum Shape {
    Number,
    Index(Vec<u32>),
    OneHot(Vec<u32>, usize),
}

/// Whether a value stands for none; of ids, fewer words do.
pub(crate) fn is_missing(cell: Cell<'_>, id: bool) -> bool {
    match cell {
        Cell::Missing => true,
        Cell::Float(value) => value.is_nan(),
        Cell::Text(text) => match text {
            b"" | b"nan" | b"NaN" | b"null" | b"NULL" | b"<NA>" => true,
            b"NAN" | b"NA" | b"N/A" | b"n/a" | b"None" | b"none" | b"Null" | b"?" | b"#N/A" | b"NaT" | b"\\N" => !id,
            _ => false,
        },
        Cell::Whole(_) | Cell::Decimal(..) => false,
    }
}

/// A number for each letter of a text that is filled up to `width`, as the benchmark TGB has them: digits are themselves, `A` is 30.
pub(crate) fn letters(text: &str, width: usize) -> Vec<f32> {
    let number = |letter: char| match letter.to_digit(10) {
        Some(digit) => digit as f32,
        None if letter == '!' => -1.0,
        None => letter.to_uppercase().next().map_or(-1.0, |letter| u32::from(letter) as f32 - 35.0),
    };
    let mut numbers: Vec<f32> = text.chars().map(number).collect();
    numbers.resize(width, -1.0);
    numbers
}

/// Whether text is a number, or what is read as one.
pub(crate) fn number_like(text: &[u8]) -> bool {
    truth(text).is_some() || std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

fn truth(text: &[u8]) -> Option<f32> {
    match text {
        b"true" | b"True" | b"TRUE" => Some(1.0),
        b"false" | b"False" | b"FALSE" => Some(0.0),
        _ => None,
    }
}

/// The number that a word stands for.
fn word(what: &str, name: &str, text: &[u8]) -> Result<f32, String> {
    if let Some(value) = truth(text) {
        return Ok(value);
    }
    let shown: String = String::from_utf8_lossy(text).chars().take(80).collect();
    let comma =
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.' | b'-' | b'+'));
    let advice = if comma {
        "; write numbers as 1234.5".to_owned()
    } else if what == "feature" {
        format!("; --categorical {name} makes features of its values, --drop {name} leaves it out")
    } else {
        String::new()
    };
    Err(format!("{what} `{name}` is `{shown}`, which is not a number{advice}"))
}

/// A number that is not negative and has no fraction; `7.0` is valid.
fn whole(what: &str, cell: Cell<'_>) -> Result<u64, Fault> {
    let value = match cell {
        Cell::Text(text) => {
            let text = String::from_utf8_lossy(text);
            let digits =
                text.trim_end_matches('0').strip_suffix('.').map_or(&*text, |_| text.split('.').next().unwrap_or(""));
            digits.parse::<u64>().map_err(|_| format!("{what} `{text}` is not a whole number"))
        }
        Cell::Whole(value) => u64::try_from(value).map_err(|_| format!("{what} `{value}` is negative")),
        _ => Err(format!("{what} is not a whole number")),
    };
    value.map_err(Fault::Wrong)
}

/// A decimal number in digits.
fn decimal(mantissa: i128, decimals: u32) -> String {
    let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = decimals as usize + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals as usize);
    let sign = if mantissa < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}
