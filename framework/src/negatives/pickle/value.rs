//! The parts of a table of negatives inside a pickle.
use std::rc::Rc;

/// A whole number or a fraction, as Python had it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Whole(i64),
    Real(f64),
}

impl Number {
    /// The number if it is whole, whatever its type was.
    pub fn whole(self) -> Option<i64> {
        match self {
            Number::Whole(value) => Some(value),
            // 2^53: up to there a double counts in ones.
            Number::Real(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => Some(value as i64),
            Number::Real(_) => None,
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Whole(value) => value.fmt(f),
            Number::Real(value) => value.fmt(f),
        }
    }
}

/// What the machine's stack holds.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    None,
    Flag,
    Number(Number),
    Text(&'a str),
    Bytes(Bytes<'a>),
    Tuple(Rc<[Value<'a>]>),
    Name(Name),
    /// Position among the machine's types; a later BUILD completes it.
    Dtype(usize),
    /// Position among the machine's arrays, likewise.
    Array(usize),
    /// The one dict.
    Dict,
}

/// Bytes as in the file, or decoded from text.
#[derive(Clone, Debug)]
pub enum Bytes<'a> {
    Borrowed(&'a [u8]),
    Owned(Rc<[u8]>),
}

impl Bytes<'_> {
    pub fn get(&self) -> &[u8] {
        match self {
            Bytes::Borrowed(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// The names that may occur.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Name {
    Ndarray,
    Dtype,
    Reconstruct,
    FromBuffer,
    Scalar,
    Encode,
}

impl Name {
    pub fn parse(module: &str, name: &str) -> Option<Self> {
        // numpy 2 moved its `core` to `_core`.
        match (module, name) {
            ("numpy", "ndarray") => Some(Name::Ndarray),
            ("numpy", "dtype") => Some(Name::Dtype),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Some(Name::Reconstruct),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Some(Name::Scalar),
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Some(Name::FromBuffer),
            ("_codecs", "encode") => Some(Name::Encode),
            _ => None,
        }
    }
}

/// An element type: signed, unsigned or floating, and its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Dtype {
    pub kind: u8,
    pub width: usize,
}

impl Dtype {
    pub fn parse(code: &str) -> Option<Self> {
        let (kind, width) = code.split_at_checked(1)?;
        let (kind, width) = (kind.as_bytes()[0], width.parse().ok()?);
        let known = matches!((kind, width), (b'i' | b'u', 1 | 2 | 4 | 8) | (b'f', 4 | 8));
        known.then_some(Self { kind, width })
    }

    /// One little-endian element.
    pub fn decode(self, bytes: &[u8]) -> Option<Number> {
        let word = bytes.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        let unused = 64 - 8 * self.width as u32;
        match (self.kind, self.width) {
            (b'f', 4) => Some(Number::Real(f64::from(f32::from_bits(word as u32)))),
            (b'f', _) => Some(Number::Real(f64::from_bits(word))),
            (b'i', _) => Some(Number::Whole((word << unused) as i64 >> unused)),
            _ => i64::try_from(word).ok().map(Number::Whole),
        }
    }
}

/// Elements of one type, still undecoded.
#[derive(Clone, Debug)]
pub struct Array<'a> {
    pub dtype: Dtype,
    pub bytes: Bytes<'a>,
}
