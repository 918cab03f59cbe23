//! Parquet with flat columns of numbers, named as those of the CSV.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::basic::ConvertedType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use tempograph_kernels::Rows;

use crate::dataset::Table;
use crate::dataset::prepare::common::assemble::{Features, IdSpace, RawSource};
use crate::dataset::prepare::common::columns::{ColumnName, RawEvents, Role, by_name, feature_width};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};

pub(crate) fn read(path: &Path, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    // The parquet crate panics on some damaged files instead of returning an error; nothing it was working on is used
    // after that.
    let read = catch_unwind(AssertUnwindSafe(|| read_file(path, options, progress)));
    read.unwrap_or_else(|_| Err(PrepareError::file(path, "the file is damaged: its parts contradict each other")))
}

fn read_file(path: &Path, options: &PrepareOptions, progress: Progress<'_>) -> Result<RawSource, PrepareError> {
    let broken = |error: ParquetError| PrepareError::file(path, error.to_string());
    let file = File::open(path).map_err(|error| PrepareError::io(path, error))?;
    let total = file.metadata().map_err(|error| PrepareError::io(path, error))?.len();
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let names = schema.columns().iter().map(|column| column.path().string()).collect();
    let columns = by_name(names).map_err(|fact| PrepareError::file(path, fact))?;
    if let Some(list) = schema.columns().iter().find(|column| column.max_rep_level() > 0) {
        return Err(PrepareError::file(
            path,
            format!("column `{}` holds lists; only flat columns of numbers are read", list.path()),
        ));
    }
    let mut events = RawEvents::new(options.time_scale);
    let mut done = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken)?;
        read_group(path, group.as_ref(), &columns, &mut events)?;
        done += group.metadata().compressed_size() as u64;
        progress(done.min(total), total);
    }
    let table = Table::new(std::mem::take(&mut events.features), feature_width(&columns)).ok();
    let features = table.filter(|table| table.width() > 0).map(|table| Features { table, indexed: false });
    Ok(RawSource { events, features, node_features: None, id_space: IdSpace::Shared, notices: Vec::new() })
}

/// The numbers of one column in one row group.
enum Numbers {
    Whole(Vec<i64>),
    Float(Vec<f64>),
}

fn read_group(
    path: &Path,
    group: &dyn RowGroupReader,
    columns: &[ColumnName],
    events: &mut RawEvents,
) -> Result<(), PrepareError> {
    let first = events.len() as u64;
    let rows = group.metadata().num_rows().max(0) as usize;
    let mut features = Vec::new();
    for (at, column) in columns.iter().enumerate().filter(|(_, column)| column.role != Role::Ignored) {
        let numbers = read_column(group, at, rows).map_err(|fault| match fault {
            ColumnError::Null(row) => {
                PrepareError::row(path, first + row as u64, format!("column `{}` is null", column.name))
            }
            ColumnError::Type(found) => {
                PrepareError::file(path, format!("column `{}` is of type {found}, which is no number", column.name))
            }
            ColumnError::Broken(error) => PrepareError::file(path, format!("column `{}`: {error}", column.name)),
        })?;
        let refuse = |(row, fact): (usize, String)| PrepareError::row(path, first + row as u64, fact);
        match column.role {
            Role::Src => events.src.extend(numbers.ids("source").map_err(refuse)?),
            Role::Dst => events.dst.extend(numbers.ids("destination").map_err(refuse)?),
            Role::Time => numbers.push_times(events).map_err(refuse)?,
            Role::Label => events.label.extend(numbers.floats("label", &column.name).map_err(refuse)?),
            Role::Feature => features.push(numbers.floats("feature", &column.name).map_err(refuse)?),
            Role::Index | Role::Ignored => {}
        }
    }
    events.features.extend((0..rows).flat_map(|row| features.iter().map(move |column| column[row])));
    Ok(())
}

/// Why a column cannot be read.
enum ColumnError {
    Null(usize),
    Type(&'static str),
    Broken(ParquetError),
}

impl From<ParquetError> for ColumnError {
    fn from(error: ParquetError) -> Self {
        Self::Broken(error)
    }
}

fn read_column(group: &dyn RowGroupReader, at: usize, rows: usize) -> Result<Numbers, ColumnError> {
    let metadata = group.metadata().column(at).column_descr_ptr();
    let nullable = metadata.max_def_level() > 0;
    let unsigned = metadata.converted_type() == ConvertedType::UINT_32;
    Ok(match group.get_column_reader(at)? {
        ColumnReader::BoolColumnReader(reader) => {
            Numbers::Whole(values(reader, rows, nullable)?.into_iter().map(i64::from).collect())
        }
        ColumnReader::Int32ColumnReader(reader) => {
            let widen = |value: i32| if unsigned { i64::from(value.cast_unsigned()) } else { i64::from(value) };
            Numbers::Whole(values(reader, rows, nullable)?.into_iter().map(widen).collect())
        }
        ColumnReader::Int64ColumnReader(reader) => Numbers::Whole(values(reader, rows, nullable)?),
        ColumnReader::FloatColumnReader(reader) => {
            Numbers::Float(values(reader, rows, nullable)?.into_iter().map(f64::from).collect())
        }
        ColumnReader::DoubleColumnReader(reader) => Numbers::Float(values(reader, rows, nullable)?),
        ColumnReader::Int96ColumnReader(_) => return Err(ColumnError::Type("INT96")),
        ColumnReader::ByteArrayColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
            return Err(ColumnError::Type("text or bytes"));
        }
    })
}

fn values<T: DataType>(mut reader: ColumnReaderImpl<T>, rows: usize, nullable: bool) -> Result<Vec<T::T>, ColumnError> {
    // No capacity is reserved from the file's numbers, since the file may be damaged.
    let (mut values, mut present) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let levels = nullable.then_some(&mut present);
        let (records, _, _) = reader.read_records(rows - read, levels, None, &mut values)?;
        if records == 0 {
            return Err(ParquetError::EOF(format!("{read} rows of {rows}")).into());
        }
        read += records;
    }
    match present.iter().position(|&level| level == 0) {
        Some(row) => Err(ColumnError::Null(row)),
        None => Ok(values),
    }
}

impl Numbers {
    fn ids(self, what: &str) -> Result<Vec<u64>, (usize, String)> {
        let id = |(row, value): (usize, i64)| {
            u64::try_from(value).map_err(|_| (row, format!("{what} `{value}` is negative")))
        };
        match self {
            Self::Whole(values) => values.into_iter().enumerate().map(id).collect(),
            Self::Float(values) => {
                Err((0, format!("{what} `{:?}` is not of a whole type", values.first().copied().unwrap_or_default())))
            }
        }
    }

    fn push_times(self, events: &mut RawEvents) -> Result<(), (usize, String)> {
        let times = &mut events.times;
        match self {
            Self::Whole(values) => values
                .into_iter()
                .enumerate()
                .try_for_each(|(row, time)| times.push_whole(time).map_err(|fact| (row, fact))),
            Self::Float(values) => values
                .into_iter()
                .enumerate()
                .try_for_each(|(row, time)| times.push_float(time).map_err(|fact| (row, fact))),
        }
    }

    fn floats(self, what: &str, name: &str) -> Result<Vec<f32>, (usize, String)> {
        let values = match self {
            Self::Whole(values) => values.into_iter().map(|value| value as f32).collect::<Vec<_>>(),
            Self::Float(values) => values.into_iter().map(|value| value as f32).collect(),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(row) => Err((row, format!("{what} `{name}` is `{}`, which is not finite", values[row]))),
            None => Ok(values),
        }
    }
}
