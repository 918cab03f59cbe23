//! The values of one column of a batch.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, Decimal32Type, Decimal64Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::types::{Date32Type, Date64Type};
use arrow_array::{Array, ArrowPrimitiveType, BinaryViewArray, GenericByteArray, StringViewArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};

use crate::dataset::prepare::common::columns::{Column, Role};
use crate::dataset::prepare::common::events::{Cell, RawEvents};

/// What the reader has to know of a column besides its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Ignored,
    /// 32-bit floats, which hold no times of today.
    Single,
    Other,
}

/// The kind of a column of this type; the unit of times is noted.
pub(super) fn kind_of(
    column: &Column,
    data: &DataType,
    events: &mut RawEvents,
    notices: &mut Vec<String>,
) -> Result<Kind, String> {
    if column.role == Role::Ignored {
        return Ok(Kind::Ignored);
    }
    let name = &column.name;
    let plain = if let DataType::Dictionary(_, values) = data { values } else { data };
    let unit = match plain {
        DataType::Timestamp(unit, zone) => {
            if zone.is_none() && column.role == Role::Time {
                let notice = format!("the times of `{name}` have no zone and were read as UTC");
                if !notices.contains(&notice) {
                    notices.push(notice);
                }
            }
            Some(match unit {
                TimeUnit::Second => "s",
                TimeUnit::Millisecond => "ms",
                TimeUnit::Microsecond => "us",
                TimeUnit::Nanosecond => "ns",
            })
        }
        DataType::Date32 => Some("day"),
        DataType::Date64 => Some("ms"),
        _ => None,
    };
    match (unit, column.role) {
        (Some(unit), Role::Time) => events.times.set_unit(unit),
        (Some(unit), Role::End) => events.times.set_end_unit(unit),
        _ => {}
    }
    if plain.is_nested() {
        return Err(format!(
            "column `{name}` holds lists or records ({plain}); only flat columns are read, and --drop {name} leaves it out"
        ));
    }
    Ok(if matches!(plain, DataType::Float32 | DataType::Float16) { Kind::Single } else { Kind::Other })
}

/// Values of one column, by row.
pub(super) struct Values<'a> {
    list: List<'a>,
    nulls: Option<NullBuffer>,
    /// Place of each row's value, where a column is a dictionary.
    places: Option<Vec<usize>>,
}

enum List<'a> {
    Absent,
    Whole(Vec<i64>),
    Unsigned(&'a [u64]),
    Float(Vec<f64>),
    Decimal(Vec<i128>, u32),
    Bytes(Box<dyn Fn(usize) -> &'a [u8] + 'a>),
}

impl<'a> Values<'a> {
    /// Of a column that is not read.
    pub(super) fn absent() -> Self {
        Self { list: List::Absent, nulls: None, places: None }
    }

    pub(super) fn of(array: &'a dyn Array) -> Result<Self, String> {
        let (list, nulls) = match array.data_type() {
            DataType::Dictionary(key, _) => {
                return match **key {
                    DataType::Int8 => of_dictionary::<Int8Type>(array),
                    DataType::Int16 => of_dictionary::<Int16Type>(array),
                    DataType::Int32 => of_dictionary::<Int32Type>(array),
                    DataType::Int64 => of_dictionary::<Int64Type>(array),
                    DataType::UInt8 => of_dictionary::<UInt8Type>(array),
                    DataType::UInt16 => of_dictionary::<UInt16Type>(array),
                    DataType::UInt32 => of_dictionary::<UInt32Type>(array),
                    DataType::UInt64 => of_dictionary::<UInt64Type>(array),
                    ref other => Err(format!("is a dictionary whose keys are {other}")),
                };
            }
            data => (list_of(array, data)?, array.logical_nulls()),
        };
        Ok(Self { list, nulls, places: None })
    }

    pub(super) fn cell(&self, row: usize) -> Cell<'_> {
        let at = match &self.places {
            Some(places) if places[row] == usize::MAX => return Cell::Missing,
            Some(places) => places[row],
            None => row,
        };
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(at)) {
            return Cell::Missing;
        }
        match &self.list {
            List::Absent => Cell::Missing,
            List::Whole(values) => Cell::Whole(values[at].into()),
            List::Unsigned(values) => Cell::Whole(values[at].into()),
            List::Float(values) => Cell::Float(values[at]),
            List::Decimal(values, scale) => Cell::Decimal(values[at], *scale),
            List::Bytes(value) => Cell::Text(value(at)),
        }
    }
}

fn of_dictionary<K: ArrowDictionaryKeyType>(array: &dyn Array) -> Result<Values<'_>, String> {
    let dictionary = array.as_dictionary::<K>();
    let inner = Values::of(dictionary.values().as_ref())?;
    let places = (0..dictionary.len()).map(|row| dictionary.key(row).unwrap_or(usize::MAX)).collect();
    Ok(Values { places: Some(places), ..inner })
}

fn whole<'a, T: ArrowPrimitiveType>(array: &dyn Array) -> List<'a>
where
    T::Native: Into<i64>,
{
    List::Whole(array.as_primitive::<T>().values().iter().map(|&value| value.into()).collect())
}

fn decimal<'a, T: ArrowPrimitiveType>(array: &dyn Array, scale: i8) -> Result<List<'a>, String>
where
    T::Native: Into<i128>,
{
    let scale = u32::try_from(scale).map_err(|_| format!("has decimals of the scale {scale}"))?;
    Ok(List::Decimal(array.as_primitive::<T>().values().iter().map(|&value| value.into()).collect(), scale))
}

fn bytes<'a, T: arrow_array::types::ByteArrayType>(array: &'a GenericByteArray<T>) -> List<'a>
where
    T::Native: AsRef<[u8]>,
{
    List::Bytes(Box::new(|at| array.value(at).as_ref()))
}

fn list_of<'a>(array: &'a dyn Array, data: &DataType) -> Result<List<'a>, String> {
    Ok(match data {
        DataType::Null => List::Absent,
        DataType::Boolean => {
            let values = array.as_boolean();
            List::Whole((0..values.len()).map(|at| values.value(at).into()).collect())
        }
        DataType::Int8 => whole::<Int8Type>(array),
        DataType::Int16 => whole::<Int16Type>(array),
        DataType::Int32 => whole::<Int32Type>(array),
        DataType::Int64 => whole::<Int64Type>(array),
        DataType::UInt8 => whole::<UInt8Type>(array),
        DataType::UInt16 => whole::<UInt16Type>(array),
        DataType::UInt32 => whole::<UInt32Type>(array),
        DataType::UInt64 => List::Unsigned(array.as_primitive::<UInt64Type>().values()),
        DataType::Date32 => whole::<Date32Type>(array),
        DataType::Date64 => whole::<Date64Type>(array),
        DataType::Timestamp(TimeUnit::Second, _) => whole::<TimestampSecondType>(array),
        DataType::Timestamp(TimeUnit::Millisecond, _) => whole::<TimestampMillisecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => whole::<TimestampMicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => whole::<TimestampNanosecondType>(array),
        DataType::Duration(TimeUnit::Second) => whole::<DurationSecondType>(array),
        DataType::Duration(TimeUnit::Millisecond) => whole::<DurationMillisecondType>(array),
        DataType::Duration(TimeUnit::Microsecond) => whole::<DurationMicrosecondType>(array),
        DataType::Duration(TimeUnit::Nanosecond) => whole::<DurationNanosecondType>(array),
        DataType::Float16 => {
            List::Float(array.as_primitive::<Float16Type>().values().iter().map(|value| value.to_f64()).collect())
        }
        DataType::Float32 => {
            List::Float(array.as_primitive::<Float32Type>().values().iter().map(|&value| value.into()).collect())
        }
        DataType::Float64 => List::Float(array.as_primitive::<Float64Type>().values().to_vec()),
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(array, *scale)?,
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(array, *scale)?,
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(array, *scale)?,
        DataType::Utf8 => bytes(array.as_string::<i32>()),
        DataType::LargeUtf8 => bytes(array.as_string::<i64>()),
        DataType::Binary => bytes(array.as_binary::<i32>()),
        DataType::LargeBinary => bytes(array.as_binary::<i64>()),
        DataType::Utf8View => {
            let values: &StringViewArray = array.as_string_view();
            List::Bytes(Box::new(|at| values.value(at).as_bytes()))
        }
        DataType::BinaryView => {
            let values: &BinaryViewArray = array.as_binary_view();
            List::Bytes(Box::new(|at| values.value(at)))
        }
        other => {
            return Err(format!(
                "is of the type {other}, which is neither a number, nor text, nor a date with its time"
            ));
        }
    })
}
