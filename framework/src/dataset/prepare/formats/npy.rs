//! Arrays of numbers in numpy's `.npy` files (format versions 1 to 3), read as f32.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::dataset::Table;
use crate::dataset::prepare::common::error::PrepareError;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The facts in the header.
struct Header {
    number: Number,
    rows: usize,
    width: usize,
}

/// How one little-endian number becomes an f32.
#[derive(Clone, Copy)]
struct Number {
    bytes: usize,
    read: fn(&[u8]) -> f32,
}

macro_rules! number {
    ($type:ty) => {
        Number {
            bytes: size_of::<$type>(),
            read: |bytes| <$type>::from_le_bytes(std::array::from_fn(|i| bytes[i])) as f32,
        }
    };
}

impl Number {
    fn of(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f4" => number!(f32),
            "<f8" => number!(f64),
            "|b1" | "|u1" => number!(u8),
            "|i1" => number!(i8),
            "<i2" => number!(i16),
            "<i4" => number!(i32),
            "<i8" => number!(i64),
            "<u2" => number!(u16),
            "<u4" => number!(u32),
            "<u8" => number!(u64),
            _ => return None,
        })
    }
}

/// The table in a file `[rows, width]`, or `[rows]` for a width of one; `None` if the file does not exist or its width
/// is zero.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Table>, PrepareError> {
    if path.exists() { read(path) } else { Ok(None) }
}

fn read(path: &Path) -> Result<Option<Table>, PrepareError> {
    let refuse = |fact: String| PrepareError::file(path, fact);
    let file = File::open(path).map_err(|error| PrepareError::io(path, error))?;
    let file_bytes = file.metadata().map_err(|error| PrepareError::io(path, error))?.len();
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (text, header_bytes) =
        read_header(&mut reader).ok_or_else(|| refuse("not a .npy file, or truncated in its header".into()))?;
    let header = parse_header(&text).map_err(refuse)?;
    let promised = header
        .rows
        .checked_mul(header.width)
        .and_then(|n| n.checked_mul(header.number.bytes))
        .map(|n| n as u64 + header_bytes);
    if promised != Some(file_bytes) {
        let promised = promised.map_or("more than fits memory".into(), |bytes| bytes.to_string());
        return Err(refuse(format!(
            "{file_bytes} bytes where the header promises {promised}: truncated, or not closed"
        )));
    }
    let values = read_values(&mut reader, &header).map_err(|error| PrepareError::io(path, error))?;
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let (row, column) = (at / header.width, at % header.width);
        return Err(PrepareError::row(
            path,
            row as u64,
            format!("feature in column {column} is {} as a 32-bit float", values[at]),
        ));
    }
    Ok(Table::new(values, header.width).ok())
}

/// The header's text and the bytes before the values.
fn read_header(reader: &mut impl Read) -> Option<(String, u64)> {
    let mut start = [0; 8];
    reader.read_exact(&mut start).ok()?;
    if &start[..6] != MAGIC {
        return None;
    }
    let (len, prefix) = if start[6] == 1 {
        let mut len = [0; 2];
        reader.read_exact(&mut len).ok()?;
        (u32::from(u16::from_le_bytes(len)), 10)
    } else {
        let mut len = [0; 4];
        reader.read_exact(&mut len).ok()?;
        (u32::from_le_bytes(len), 12)
    };
    let mut text = String::new();
    let read = reader.take(len.into()).read_to_string(&mut text).ok()?;
    (read as u32 == len).then_some((text, prefix + u64::from(len)))
}

/// The header is a Python dictionary: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
fn parse_header(text: &str) -> Result<Header, String> {
    let after = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let descr = after("descr").and_then(|rest| rest.strip_prefix('\'')).and_then(|rest| rest.split('\'').next());
    let descr = descr.ok_or("the header names no plain type")?;
    let number = Number::of(descr).ok_or_else(|| {
        format!("type `{descr}` is not among the numbers read: f4, f8, integers, bool; little-endian")
    })?;
    let shape = after("shape")
        .and_then(|rest| rest.strip_prefix('('))
        .and_then(|rest| rest.split(')').next())
        .ok_or("the header has no shape")?;
    let axes: Result<Vec<usize>, _> =
        shape.split(',').map(str::trim).filter(|axis| !axis.is_empty()).map(str::parse).collect();
    let (rows, width) = match axes.as_deref() {
        Ok([rows]) => (*rows, 1),
        Ok([rows, width]) => (*rows, *width),
        _ => return Err(format!("shape ({shape}) is not [rows, columns]")),
    };
    let fortran = after("fortran_order").is_some_and(|rest| rest.starts_with("True"));
    if fortran && rows > 1 && width > 1 {
        return Err("the array is in Fortran order; save it with numpy.ascontiguousarray".into());
    }
    Ok(Header { number, rows, width })
}

fn read_values(reader: &mut impl Read, header: &Header) -> std::io::Result<Vec<f32>> {
    let Number { bytes, read } = header.number;
    let mut left = header.rows * header.width;
    let mut values = Vec::with_capacity(left);
    let mut chunk = vec![0; 8192 * bytes];
    while left > 0 {
        let count = left.min(8192);
        reader.read_exact(&mut chunk[..count * bytes])?;
        values.extend(chunk[..count * bytes].chunks_exact(bytes).map(read));
        left -= count;
    }
    Ok(values)
}
