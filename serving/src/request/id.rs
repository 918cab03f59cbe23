//! The user's own ids of nodes.

use std::fmt;
use std::sync::Arc;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tempograph_framework::{IdMap, NodeId};

/// Bytes of the longest id that is text.
pub const LONGEST_NODE_ID: usize = 1024;

/// The user's own id of a node, as the user writes it: a whole number or text. Its JSON form is a number or a string.
///
/// A set has ids of one kind ([`Manifest::text_ids`](crate::Manifest::text_ids)). Requests may write a number as text:
/// `"17"` and `17` are one id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExternalId {
    /// A whole number.
    Number(u64),
    /// Text, not empty and at most [`LONGEST_NODE_ID`] bytes.
    Text(Arc<str>),
}

impl ExternalId {
    /// The id of a node of a dataset.
    pub fn of(ids: &IdMap, node: NodeId) -> ExternalId {
        if ids.is_text() { ExternalId::from(&*ids.name(node)) } else { ids.external_id(node).into() }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        if let ExternalId::Number(number) = self { Some(*number) } else { None }
    }

    /// The same id in the form of a set whose ids are text, or are numbers. `None` for text that is no number, where
    /// ids are numbers.
    pub(crate) fn in_form(&self, text: bool) -> Option<ExternalId> {
        match (self, text) {
            (ExternalId::Number(number), true) => Some(ExternalId::from(&*number.to_string())),
            (ExternalId::Text(id), false) => whole(id).map(ExternalId::Number),
            (id, _) => Some(id.clone()),
        }
    }
}

/// The number that is written as `text`, and not otherwise: no sign, and no zeros in front.
fn whole(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

impl From<u64> for ExternalId {
    fn from(number: u64) -> ExternalId {
        ExternalId::Number(number)
    }
}

impl PartialEq<u64> for ExternalId {
    fn eq(&self, number: &u64) -> bool {
        self.number() == Some(*number)
    }
}

impl From<&str> for ExternalId {
    fn from(text: &str) -> ExternalId {
        ExternalId::Text(text.into())
    }
}

impl fmt::Display for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExternalId::Number(number) => number.fmt(f),
            ExternalId::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for ExternalId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ExternalId::Number(number) => serializer.serialize_u64(*number),
            ExternalId::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for ExternalId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ExternalId, D::Error> {
        struct Id;
        impl Visitor<'_> for Id {
            type Value = ExternalId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id: a whole number from 0, or text")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<ExternalId, E> {
                Ok(number.into())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ExternalId, E> {
                let negative = |_| E::invalid_value(Unexpected::Signed(number), &self);
                u64::try_from(number).map(ExternalId::Number).map_err(negative)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ExternalId, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_any(Id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_or_text_in_json_and_nothing_else() {
        for (json, id) in
            [("17", ExternalId::Number(17)), ("\"ada\"", "ada".into()), ("18446744073709551615", u64::MAX.into())]
        {
            let read: ExternalId = serde_json::from_str(json).unwrap();
            assert_eq!((&read, serde_json::to_string(&read).unwrap().as_str()), (&id, json));
        }
        for wrong in ["-1", "1.5", "18446744073709551616", "null", "true", "[1]"] {
            let error = serde_json::from_str::<ExternalId>(wrong).unwrap_err().to_string();
            assert!(error.contains("an id: a whole number from 0, or text"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_number_as_text_is_that_number_and_other_text_is_not() {
        let number = |text: &str| ExternalId::from(text).in_form(false);
        assert_eq!(number("9007199254740993"), Some(9_007_199_254_740_993.into()));
        for other in ["007", "+7", "-7", "7.0", "", "ada", "18446744073709551616"] {
            assert_eq!(number(other), None, "{other}");
        }
        assert_eq!(ExternalId::Number(7).in_form(true), Some("7".into()));
    }
}
