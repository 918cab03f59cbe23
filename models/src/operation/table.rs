//! The tables between operations.

/// A table of rows that an operation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(u32);

impl Value {
    pub(crate) fn new(index: usize) -> Value {
        Value(index as u32)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// The distinct nodes of a view, `U`.
    Nodes,
    /// The centres of a hop, `C`. Hop 0 has the roots themselves.
    Centres(usize),
    /// The scored pairs, `P`: rows of a source and a candidate together. Only operations on pairs and the decoder read
    /// them.
    Pairs,
}

impl std::fmt::Display for Axis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Axis::Nodes => f.write_str("nodes"),
            Axis::Centres(0) => f.write_str("roots"),
            Axis::Centres(hop) => write!(f, "centres of hop {hop}"),
            Axis::Pairs => f.write_str("pairs"),
        }
    }
}

/// Rows and columns of a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The meaning of its rows.
    pub axis: Axis,
    /// Columns.
    pub width: usize,
}
