//! Parquet with flat columns, named as those of the CSV: numbers of all widths, decimals, text, dates and timestamps. `edge_feat.npy` and
//! `node_feat.npy` may be next to it as with a CSV.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, ByteArray, DataType, Int96};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use crate::dataset::prepare::common::assemble::RawSource;
use crate::dataset::prepare::common::columns::{Column, Role};
use crate::dataset::prepare::common::error::PrepareError;
use crate::dataset::prepare::common::events::{Cell, RawEvents};
use crate::dataset::prepare::common::options::{PrepareOptions, Progress};
use crate::dataset::prepare::formats::companions::{edge_rows, node_rows, pass_over_features};
use crate::dataset::prepare::formats::csv::named;
use crate::dataset::prepare::formats::table::space_of;
use crate::storage::contained::contained;

/// Rows read at a time.
const ROWS: usize = 8192;
/// Days from the beginning of the Julian calendar to 1970.
const JULIAN: i64 = 2_440_588;
/// Whole numbers from here on are not all 32-bit floats.
const SINGLE: f64 = 16_777_216.0;

pub(crate) fn read(
    paths: &[PathBuf],
    options: &PrepareOptions,
    progress: Progress<'_>,
) -> Result<RawSource, PrepareError> {
    let mut events: Option<RawEvents> = None;
    let mut notices = Vec::new();
    let Some(first) = paths.first() else { return Err(PrepareError::file(Path::new(""), "no file is named")) };
    for path in paths {
        // The parquet crate panics on some damaged files instead of returning an error; nothing it was working on is
        // used after that.
        let read = contained(|| read_file(path, first, options, events.take(), &mut notices, progress));
        let read = read
            .unwrap_or_else(|| Err(PrepareError::file(path, "the file is damaged: its parts contradict each other")));
        events = Some(read?);
    }
    let Some(events) = events else { return Err(PrepareError::file(first, "there are no events")) };
    let features = edge_rows(&first.with_file_name("edge_feat.npy"), &events)?;
    let node_features = node_rows(first.with_file_name("node_feat.npy"), false)?;
    let how = if paths.len() > 1 { format!("{} files in order", paths.len()) } else { "columns by their names".into() };
    let space = space_of(events.columns());
    Ok(RawSource { events, features, node_features, space, how, notices })
}

fn read_file(
    path: &Path,
    first: &Path,
    options: &PrepareOptions,
    events: Option<RawEvents>,
    notices: &mut Vec<String>,
    progress: Progress<'_>,
) -> Result<RawEvents, PrepareError> {
    let broken = |error: ParquetError| PrepareError::file(path, error.to_string());
    let file = File::open(path).map_err(|error| PrepareError::io(path, error))?;
    let total = file.metadata().map_err(|error| PrepareError::io(path, error))?.len();
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
    let mut columns = named(&names, options).map_err(|fact| PrepareError::file(path, fact))?;
    if first.with_file_name("edge_feat.npy").exists() {
        let notice = pass_over_features(&mut columns);
        if events.is_none() {
            notices.extend(notice);
        }
    }
    let mut events = match events {
        None => RawEvents::new(columns.clone(), options),
        Some(events) if events.columns() == columns => events,
        Some(_) => return Err(PrepareError::file(path, "the columns are not those of the first file, in one order")),
    };
    let mut kinds = Vec::new();
    for (column, descriptor) in columns.iter().zip(schema.columns()) {
        kinds.push(kind_of(column, descriptor, &mut events, notices).map_err(|fact| PrepareError::file(path, fact))?);
    }
    events.times.check_units().map_err(|fact| PrepareError::file(path, fact))?;
    let (mut done, mut row) = (0, 0);
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken)?;
        read_group(path, group.as_ref(), &columns, &kinds, &mut row, &mut events)?;
        done += group.metadata().compressed_size().max(0) as u64;
        progress(done.min(total), total);
    }
    Ok(events)
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Whole,
    Unsigned32,
    Unsigned64,
    Double,
    Single,
    Half,
    Decimal(u32),
    Text,
    /// Nanoseconds since 1970 in days and the rest.
    Int96,
    /// Not read.
    Ignored,
}

fn kind_of(
    column: &Column,
    descriptor: &ColumnDescriptor,
    events: &mut RawEvents,
    notices: &mut Vec<String>,
) -> Result<Kind, String> {
    if column.role == Role::Ignored {
        return Ok(Kind::Ignored);
    }
    let name = &column.name;
    let drop = format!("--drop {name} leaves it out");
    if descriptor.max_rep_level() > 0 {
        return Err(format!("column `{name}` holds lists; only flat columns are read, and {drop}"));
    }
    let (logical, converted) = (descriptor.logical_type_ref(), descriptor.converted_type());
    let scale = match logical {
        Some(LogicalType::Decimal(decimal)) => Some(decimal.scale),
        _ if converted == ConvertedType::DECIMAL => Some(descriptor.type_scale()),
        _ => None,
    };
    if let Some(scale) = scale {
        let scale = u32::try_from(scale).ok().filter(|&scale| scale <= 38);
        return scale
            .map(Kind::Decimal)
            .ok_or_else(|| format!("column `{name}` has a scale of decimals that none has"));
    }
    let unit = match (logical, converted) {
        (Some(LogicalType::Timestamp(stamp)), _) => {
            if !stamp.is_adjusted_to_u_t_c && column.role == Role::Time {
                let notice = format!("the times of `{name}` have no zone and were read as UTC");
                if !notices.contains(&notice) {
                    notices.push(notice);
                }
            }
            Some(match stamp.unit {
                TimeUnit::MILLIS => "ms",
                TimeUnit::MICROS => "us",
                TimeUnit::NANOS => "ns",
            })
        }
        (_, ConvertedType::TIMESTAMP_MILLIS) => Some("ms"),
        (_, ConvertedType::TIMESTAMP_MICROS) => Some("us"),
        (Some(LogicalType::Date), _) | (_, ConvertedType::DATE) => Some("day"),
        _ => None,
    };
    match (unit, column.role) {
        (Some(unit), Role::Time) => events.times.set_unit(unit),
        (Some(unit), Role::End) => events.times.set_end_unit(unit),
        _ => {}
    }
    let unsigned = |bits| match logical {
        Some(LogicalType::Integer(whole)) => !whole.is_signed && i32::from(whole.bit_width) == bits,
        _ => bits == 32 && converted == ConvertedType::UINT_32 || bits == 64 && converted == ConvertedType::UINT_64,
    };
    Ok(match descriptor.physical_type() {
        Type::BOOLEAN => Kind::Whole,
        Type::INT32 if unsigned(32) => Kind::Unsigned32,
        Type::INT64 if unsigned(64) => Kind::Unsigned64,
        Type::INT32 | Type::INT64 => Kind::Whole,
        Type::FLOAT => Kind::Single,
        Type::DOUBLE => Kind::Double,
        Type::INT96 => {
            match column.role {
                Role::Time => events.times.set_unit("ns"),
                Role::End => events.times.set_end_unit("ns"),
                _ => {}
            }
            Kind::Int96
        }
        Type::FIXED_LEN_BYTE_ARRAY if matches!(logical, Some(LogicalType::Float16)) => Kind::Half,
        Type::BYTE_ARRAY if !matches!(logical, Some(LogicalType::Bson | LogicalType::Json)) => Kind::Text,
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => {
            return Err(format!("column `{name}` holds bytes that are neither numbers nor text; {drop}"));
        }
    })
}

/// Some rows of one column; nulls have a value that stands for nothing.
#[derive(Default)]
struct Values {
    whole: Vec<i64>,
    float: Vec<f64>,
    bytes: Vec<ByteArray>,
    /// Empty where no value may be null.
    present: Vec<i16>,
    /// Place of each row among the values, where some are null.
    places: Vec<usize>,
}

fn read_group(
    path: &Path,
    group: &dyn RowGroupReader,
    columns: &[Column],
    kinds: &[Kind],
    row: &mut u64,
    events: &mut RawEvents,
) -> Result<(), PrepareError> {
    let all = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let mut readers = Vec::new();
    for (at, kind) in kinds.iter().enumerate() {
        let broken = |error: ParquetError| PrepareError::file(path, format!("column `{}`: {error}", columns[at].name));
        let nullable = group.metadata().column(at).column_descr().max_def_level();
        let reader = if *kind == Kind::Ignored { None } else { Some(group.get_column_reader(at).map_err(broken)?) };
        readers.push((reader, nullable));
    }
    let single = |&at: &usize| kinds[at] == Kind::Single && matches!(columns[at].role, Role::Time | Role::End);
    let single: Vec<usize> = (0..kinds.len()).filter(single).collect();
    let mut done = 0;
    while done < all {
        let count = ROWS.min(all - done);
        let mut batch = Vec::new();
        for (at, (reader, levels)) in readers.iter_mut().enumerate() {
            let values = match reader {
                Some(reader) => values(reader, count, *levels)
                    .map_err(|error| PrepareError::file(path, format!("column `{}`: {error}", columns[at].name)))?,
                None => Values::default(),
            };
            batch.push(values);
        }
        for at in 0..count {
            for &column in &single {
                single_float_time(cell(&batch[column], kinds[column], at), &columns[column].name)
                    .map_err(|fact| PrepareError::row(path, *row, fact))?;
            }
            events.push(path, *row, |column| cell(&batch[column], kinds[column], at))?;
            *row += 1;
        }
        done += count;
    }
    Ok(())
}

/// Refuses a time that is a 32-bit float where those have no steps of one.
pub(crate) fn single_float_time(value: Cell<'_>, column: &str) -> Result<(), String> {
    match value {
        Cell::Float(value) if value.abs() >= SINGLE => Err(format!(
            "timestamp `{value}` is a 32-bit float, which has no steps of one from 16777216 on; save the column `{column}` as integers or 64-bit floats"
        )),
        _ => Ok(()),
    }
}

fn cell(values: &Values, kind: Kind, row: usize) -> Cell<'_> {
    let at = match values.places.get(row) {
        Some(&usize::MAX) => return Cell::Missing,
        Some(&at) => at,
        None => row,
    };
    match kind {
        Kind::Whole | Kind::Int96 => values.whole.get(at).map_or(Cell::Missing, |&value| Cell::Whole(value.into())),
        Kind::Unsigned32 => values.whole.get(at).map_or(Cell::Missing, |&value| Cell::Whole((value as u32).into())),
        Kind::Unsigned64 => {
            values.whole.get(at).map_or(Cell::Missing, |&value| Cell::Whole(value.cast_unsigned().into()))
        }
        Kind::Single | Kind::Double => values.float.get(at).map_or(Cell::Missing, |&value| Cell::Float(value)),
        Kind::Half => values.bytes.get(at).map_or(Cell::Missing, |bytes| Cell::Float(half(bytes.data()))),
        Kind::Decimal(scale) if values.bytes.is_empty() => {
            values.whole.get(at).map_or(Cell::Missing, |&value| Cell::Decimal(value.into(), scale))
        }
        Kind::Decimal(scale) => {
            values.bytes.get(at).map_or(Cell::Missing, |bytes| Cell::Decimal(big_endian(bytes.data()), scale))
        }
        Kind::Text => values.bytes.get(at).map_or(Cell::Missing, |bytes| Cell::Text(bytes.data())),
        Kind::Ignored => Cell::Missing,
    }
}

/// A whole number of at most sixteen bytes, two's complement.
fn big_endian(bytes: &[u8]) -> i128 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |value, &byte| value << 8 | i128::from(byte))
}

/// A 16-bit float.
fn half(bytes: &[u8]) -> f64 {
    let &[low, high] = bytes else { return f64::NAN };
    let bits = u16::from_le_bytes([low, high]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
    let value = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits & 0x8000 == 0 { value } else { -value }
}

fn nanoseconds(value: &Int96) -> Result<i64, ParquetError> {
    let data = value.data();
    let of_day = u64::from(data[1]) << 32 | u64::from(data[0]);
    let days = i128::from(data[2]) - i128::from(JULIAN);
    i64::try_from(days * 86_400_000_000_000 + i128::from(of_day))
        .map_err(|_| ParquetError::General("a time does not fit 64 bits of nanoseconds".into()))
}

fn values(reader: &mut ColumnReader, rows: usize, levels: i16) -> Result<Values, ParquetError> {
    let mut values = Values::default();
    let present = &mut values.present;
    match reader {
        ColumnReader::BoolColumnReader(reader) => {
            values.whole = some(reader, rows, levels, present)?.into_iter().map(i64::from).collect();
        }
        ColumnReader::Int32ColumnReader(reader) => {
            values.whole = some(reader, rows, levels, present)?.into_iter().map(i64::from).collect();
        }
        ColumnReader::Int64ColumnReader(reader) => values.whole = some(reader, rows, levels, present)?,
        ColumnReader::Int96ColumnReader(reader) => {
            let times = some(reader, rows, levels, present)?;
            values.whole = times.iter().map(nanoseconds).collect::<Result<_, _>>()?;
        }
        ColumnReader::FloatColumnReader(reader) => {
            values.float = some(reader, rows, levels, present)?.into_iter().map(f64::from).collect();
        }
        ColumnReader::DoubleColumnReader(reader) => values.float = some(reader, rows, levels, present)?,
        ColumnReader::ByteArrayColumnReader(reader) => values.bytes = some(reader, rows, levels, present)?,
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            let fixed = some(reader, rows, levels, present)?;
            values.bytes = fixed.into_iter().map(|bytes| ByteArray::from(bytes.as_bytes().to_vec())).collect();
        }
    }
    if let Some(long) = values.bytes.iter().find(|bytes| bytes.len() > 1 << 20) {
        return Err(ParquetError::General(format!("a value has {} bytes", long.len())));
    }
    if values.present.iter().any(|&level| level < levels) {
        let mut next = 0;
        let place = |&level: &i16| {
            if level < levels {
                return usize::MAX;
            }
            next += 1;
            next - 1
        };
        values.places = values.present.iter().map(place).collect();
    }
    Ok(values)
}

fn some<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    levels: i16,
    present: &mut Vec<i16>,
) -> Result<Vec<T::T>, ParquetError> {
    // No capacity is reserved from the file's numbers, since the file may be damaged.
    let mut values = Vec::new();
    let mut read = 0;
    while read < rows {
        let (records, ..) =
            reader.read_records(rows - read, (levels > 0).then_some(&mut *present), None, &mut values)?;
        if records == 0 {
            return Err(ParquetError::EOF(format!("{read} rows of {rows}")));
        }
        read += records;
    }
    Ok(values)
}
