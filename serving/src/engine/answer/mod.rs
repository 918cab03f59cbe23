//! Answers that take more than one pass, and how much work they are.
pub(crate) mod explain;
pub(crate) mod rank;
pub(crate) mod size;
