//! The kernels on GPUs: one source for every device that CubeCL drives, CUDA and Vulkan among them.
//!
//! What a plan holds goes to the device in one transfer, matrix products are the tensor library's, all else is a kernel here. Sums are taken in
//! a fixed order without atomics, so results do not change from run to run.
mod adam;
mod attention;
mod attention_backward;
mod dropout;
mod gather;
mod math;
mod memory;
mod memory_backward;
mod on_device;
mod plans;
mod reduce;
mod span;
mod time;

pub use span::launches;
