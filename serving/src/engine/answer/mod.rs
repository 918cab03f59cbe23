//! Answers that take more than one pass, and estimates of the work of a read.
pub(crate) mod explain;
pub(crate) mod rank;
pub(crate) mod size;
