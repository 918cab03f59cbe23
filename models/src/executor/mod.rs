//! Executors run programs: they know no model, and a model knows none of them.
mod slices;
mod tensors;
mod update;

pub use slices::{SliceProgram, SliceWork};
pub use tensors::{ProgramModule, TensorContext};
