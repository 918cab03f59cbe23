//! The axes of a temporal graph as types, so that the compiler rejects a node where an event or a time is meant.

use serde::{Deserialize, Serialize};

/// A node's dense number, `0..nodes`.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
#[repr(transparent)]
#[serde(transparent)]
pub struct NodeId(pub u32);

/// An event's position in its log. Equal times are ordered by it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
#[repr(transparent)]
#[serde(transparent)]
pub struct EventId(pub u64);

/// A time in integer ticks of the dataset's declared unit.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
#[repr(transparent)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl NodeId {
    /// The number as an index into a table with a row for each node.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl EventId {
    /// The number as an index into the log's columns.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Timestamp {
    /// Ticks from `earlier` to `self`, as the kernels need it. The difference is computed in integers first, so large
    /// absolute times lose no precision. A difference beyond an `i64` is the largest one.
    pub fn since(self, earlier: Timestamp) -> f32 {
        self.0.saturating_sub(earlier.0) as f32
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
