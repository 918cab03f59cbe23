//! Executors run programs. An executor depends on no model, and a model depends on no executor.
#[cfg(feature = "cube")]
mod device;
mod slices;
mod tensors;
mod update;

#[cfg(feature = "cube")]
pub use device::DeviceProgram;
#[cfg(feature = "cube")]
pub(crate) use device::{
    BackwardFn, DeviceContext, DeviceStage, LayoutBuilder, TimeGradients, TimeSlot, linear_backward,
};
pub use slices::{SliceProgram, SliceWork};
pub use tensors::{ProgramModule, TensorContext};
