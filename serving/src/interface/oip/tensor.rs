//! Tensors of the Open Inference Protocol.

use serde::{Serialize, Serializer};
use serde_json::{Number, Value};

use crate::access::error::{ApiError, ErrorKind};
use crate::request::id::ExternalId;

/// A named tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub name: String,
    pub shape: Vec<i64>,
    pub values: Values,
}

/// Values in row-major order. Integers are widened when they are read, from any width.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// `INT8` to `INT64`.
    Signed(Vec<i64>),
    /// `UINT8` to `UINT64`.
    Unsigned(Vec<u64>),
    /// `FP32`.
    Float(Vec<f32>),
    /// `FP64`.
    Double(Vec<f64>),
    /// `BYTES` that are UTF-8.
    Text(Vec<String>),
}

fn malformed(fact: String) -> ApiError {
    ApiError::new(ErrorKind::Malformed, fact)
}

impl Tensor {
    /// # Errors
    /// 400 where the shape does not match the number of values.
    pub fn new(name: &str, shape: &[i64], values: Values) -> Result<Tensor, ApiError> {
        let count = shape.iter().try_fold(1_u64, |count, &length| count.checked_mul(u64::try_from(length).ok()?));
        if count != Some(values.len() as u64) {
            return Err(malformed(format!(
                "input `{name}` has {} values, which is not what its shape {shape:?} says",
                values.len()
            )));
        }
        Ok(Tensor { name: name.into(), shape: shape.to_vec(), values })
    }

    /// An output with one axis.
    pub fn row(name: &str, values: Values) -> Tensor {
        Tensor { name: name.into(), shape: vec![values.len() as i64], values }
    }

    /// Values as ids.
    ///
    /// # Errors
    /// 422 naming the first value that is no id.
    pub fn ids(&self) -> Result<Vec<ExternalId>, ApiError> {
        let wrong = |at: usize, value: &dyn std::fmt::Display| {
            ApiError::new(
                ErrorKind::Invalid,
                format!("{}[{at}] is {value}, which is not an id: a whole number from 0", self.name),
            )
        };
        match &self.values {
            Values::Unsigned(values) => Ok(values.iter().map(|&value| value.into()).collect()),
            Values::Signed(values) => values
                .iter()
                .enumerate()
                .map(|(at, &value)| u64::try_from(value).map(ExternalId::Number).map_err(|_| wrong(at, &value)))
                .collect(),
            Values::Text(values) => Ok(values.iter().map(|value| value.as_str().into()).collect()),
            Values::Float(_) | Values::Double(_) => {
                Err(malformed(format!("input `{}` has fractions; ids are UINT64, INT64 or BYTES", self.name)))
            }
        }
    }

    /// Values as times.
    ///
    /// # Errors
    /// 422 naming the first value that is not a number.
    pub fn times(&self) -> Result<Vec<Number>, ApiError> {
        let real = |(at, value): (usize, f64)| {
            let wrong =
                || ApiError::new(ErrorKind::Invalid, format!("{}[{at}] is {value}, which is no time", self.name));
            Number::from_f64(value).ok_or_else(wrong)
        };
        match &self.values {
            Values::Unsigned(values) => Ok(values.iter().map(|&value| value.into()).collect()),
            Values::Signed(values) => Ok(values.iter().map(|&value| value.into()).collect()),
            Values::Float(values) => values.iter().map(|&value| f64::from(value)).enumerate().map(real).collect(),
            Values::Double(values) => values.iter().copied().enumerate().map(real).collect(),
            Values::Text(_) => Err(malformed(format!("input `{}` is BYTES; times are INT64 or FP64", self.name))),
        }
    }
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::Signed(values) => values.len(),
            Values::Unsigned(values) => values.len(),
            Values::Float(values) => values.len(),
            Values::Double(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    /// The name of the datatype in an output.
    pub fn datatype(&self) -> &'static str {
        match self {
            Values::Signed(_) => "INT64",
            Values::Unsigned(_) => "UINT64",
            Values::Float(_) => "FP32",
            Values::Double(_) => "FP64",
            Values::Text(_) => "BYTES",
        }
    }

    /// Little-endian bytes, as the protocol's binary form has them.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Values::Signed(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Unsigned(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Float(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Double(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Text(values) => {
                let length = |value: &String| (value.len() as u32).to_le_bytes();
                values.iter().flat_map(|value| length(value).into_iter().chain(value.bytes())).collect()
            }
        }
    }

    /// # Errors
    /// 400 for a datatype that is not supported, or bytes that are no whole number of values.
    pub fn of_bytes(name: &str, datatype: &str, bytes: &[u8]) -> Result<Values, ApiError> {
        fn each<const WIDTH: usize, T>(
            name: &str,
            bytes: &[u8],
            value: impl Fn([u8; WIDTH]) -> T,
        ) -> Result<Vec<T>, ApiError> {
            let (chunks, rest) = bytes.as_chunks::<WIDTH>();
            if !rest.is_empty() {
                return Err(malformed(format!(
                    "input `{name}` has {} bytes, which are no whole values of {WIDTH} bytes",
                    bytes.len()
                )));
            }
            Ok(chunks.iter().map(|&chunk| value(chunk)).collect())
        }
        match datatype {
            "INT8" => Ok(Values::Signed(each(name, bytes, |b| i8::from_le_bytes(b).into())?)),
            "INT16" => Ok(Values::Signed(each(name, bytes, |b| i16::from_le_bytes(b).into())?)),
            "INT32" => Ok(Values::Signed(each(name, bytes, |b| i32::from_le_bytes(b).into())?)),
            "INT64" => Ok(Values::Signed(each(name, bytes, i64::from_le_bytes)?)),
            "UINT8" => Ok(Values::Unsigned(each(name, bytes, |b| u8::from_le_bytes(b).into())?)),
            "UINT16" => Ok(Values::Unsigned(each(name, bytes, |b| u16::from_le_bytes(b).into())?)),
            "UINT32" => Ok(Values::Unsigned(each(name, bytes, |b| u32::from_le_bytes(b).into())?)),
            "UINT64" => Ok(Values::Unsigned(each(name, bytes, u64::from_le_bytes)?)),
            "FP32" => Ok(Values::Float(each(name, bytes, f32::from_le_bytes)?)),
            "FP64" => Ok(Values::Double(each(name, bytes, f64::from_le_bytes)?)),
            "BYTES" => texts(name, bytes).map(Values::Text),
            other => Err(unread(name, other)),
        }
    }

    /// Values from JSON: flat, or nested in the shape.
    ///
    /// # Errors
    /// 400 naming the first value that is not of the datatype.
    pub fn of_json(name: &str, datatype: &str, data: &Value) -> Result<Values, ApiError> {
        let mut flat = Vec::new();
        flatten(data, 0, &mut flat).map_err(|()| malformed(format!("input `{name}`: data is nested too deep")))?;
        let wrong =
            |(at, value): (usize, &Value)| malformed(format!("{name}[{at}] is {value}, which is not {datatype}"));
        macro_rules! each {
            ($read:ident) => {
                flat.into_iter()
                    .enumerate()
                    .map(|(at, value)| value.$read().ok_or_else(|| wrong((at, value))))
                    .collect::<Result<Vec<_>, _>>()
            };
        }
        match datatype {
            "INT8" | "INT16" | "INT32" | "INT64" => Ok(Values::Signed(each!(as_i64)?)),
            "UINT8" | "UINT16" | "UINT32" | "UINT64" => Ok(Values::Unsigned(each!(as_u64)?)),
            "FP32" | "FP64" => Ok(Values::Double(each!(as_f64)?)),
            "BYTES" => Ok(Values::Text(each!(as_str)?.into_iter().map(String::from).collect())),
            other => Err(unread(name, other)),
        }
    }
}

impl Serialize for Values {
    /// A list. Single-precision numbers have the fewest digits that identify them.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Values::Signed(values) => values.serialize(serializer),
            Values::Unsigned(values) => values.serialize(serializer),
            Values::Float(values) => values.serialize(serializer),
            Values::Double(values) => values.serialize(serializer),
            Values::Text(values) => values.serialize(serializer),
        }
    }
}

/// Texts, each behind its length in four bytes.
fn texts(name: &str, mut bytes: &[u8]) -> Result<Vec<String>, ApiError> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let wrong = |fact: &str| malformed(format!("{name}[{}] {fact}", texts.len()));
        let (length, rest) = bytes.split_first_chunk().ok_or_else(|| wrong("ends within its length"))?;
        let (text, rest) = rest
            .split_at_checked(u32::from_le_bytes(*length) as usize)
            .ok_or_else(|| wrong("is shorter than its length says"))?;
        let text = std::str::from_utf8(text).map_err(|_| wrong("is not UTF-8"))?;
        texts.push(text.into());
        bytes = rest;
    }
    Ok(texts)
}

fn unread(name: &str, datatype: &str) -> ApiError {
    malformed(format!("input `{name}` is {datatype}; INT8 to INT64, UINT8 to UINT64, FP32, FP64 and BYTES are read"))
}

/// Most axes of a tensor in JSON.
const DEEPEST: usize = 8;

fn flatten<'a>(data: &'a Value, depth: usize, flat: &mut Vec<&'a Value>) -> Result<(), ()> {
    match data {
        Value::Array(rows) if depth < DEEPEST => rows.iter().try_for_each(|row| flatten(row, depth + 1, flat)),
        Value::Array(_) => Err(()),
        value => {
            flat.push(value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_the_same_by_bytes_and_by_json() {
        for values in [
            Values::Signed(vec![-3, i64::MAX]),
            Values::Unsigned(vec![0, u64::MAX]),
            Values::Float(vec![0.5, -1.25]),
            Values::Double(vec![0.1, 1e300]),
            Values::Text(vec!["ada".into(), String::new(), "żółć".into()]),
        ] {
            assert_eq!(Values::of_bytes("x", values.datatype(), &values.to_bytes()).unwrap(), values);
            let submitted_text = serde_json::from_str(&serde_json::to_string(&values).unwrap()).unwrap();
            let back = Values::of_json("x", values.datatype(), &submitted_text).unwrap();
            match (&values, &back) {
                (Values::Float(a), Values::Double(b)) => assert!(a.iter().zip(b).all(|(&a, &b)| a == b as f32)),
                _ => assert_eq!(back, values),
            }
        }
        assert_eq!(Values::of_bytes("x", "INT16", &(-7_i16).to_le_bytes()).unwrap(), Values::Signed(vec![-7]));
        assert_eq!(Values::of_json("x", "INT64", &json!([[1, 2], [3, 4]])).unwrap(), Values::Signed(vec![1, 2, 3, 4]));
    }

    #[test]
    fn a_malformed_tensor_is_named() {
        let said = |result: Result<Values, ApiError>| result.unwrap_err().error;
        assert!(said(Values::of_bytes("x", "INT64", &[0; 9])).contains("`x` has 9 bytes"));
        assert!(said(Values::of_bytes("x", "BOOL", &[])).contains("`x` is BOOL"));
        assert!(said(Values::of_bytes("x", "BYTES", &[1, 0])).contains("x[0] ends within its length"));
        assert!(said(Values::of_bytes("x", "BYTES", &[1, 0, 0, 0, 255])).contains("x[0] is not UTF-8"));
        assert!(said(Values::of_json("x", "UINT64", &json!([1, -2]))).contains("x[1] is -2, which is not UINT64"));
        assert!(said(Values::of_json("x", "UINT64", &json!([[[[[[[[[1]]]]]]]]]))).contains("too deep"));
        for shape in [&[3][..], &[-1], &[i64::MAX, i64::MAX], &[2, 2]] {
            assert!(Tensor::new("x", shape, Values::Signed(vec![1, 2])).is_err(), "{shape:?}");
        }
        let tensor = |values| Tensor::row("x", values);
        assert!(tensor(Values::Signed(vec![1, -1])).ids().unwrap_err().error.contains("x[1] is -1"));
        assert!(tensor(Values::Double(vec![f64::NAN])).times().is_err());
    }
}
