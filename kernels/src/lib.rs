//! Numeric routines of memory-based temporal graph networks, each with its hand-written backward pass.
mod rows;

pub use rows::Rows;
