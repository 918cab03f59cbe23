//! The kernels on GPUs: one source for every device that CubeCL drives, CUDA and Vulkan among them.
//!
//! What a plan holds goes to the device in one transfer, matrix products are the tensor library's, all else is a kernel here. Sums are taken in
//! a fixed order without atomics, so results do not change from run to run.
mod adam;
mod attention;
mod attention_backward;
mod dropout;
mod gather;
mod grouping;
mod history;
mod math;
mod memory;
mod memory_backward;
mod neighbours;
mod on_device;
mod plans;
mod products;
mod reduce;
mod resident;
mod scan;
mod span;
mod state;
mod time;
mod unique;

pub use history::{DeviceEvents, DeviceHistory, DevicePast, DeviceRoots, DeviceRules, HostMail, HostPast};
pub use products::allow_tf32;
pub use resident::{DeviceOps, DeviceScores, device_attention, device_memory_update, device_roots};
pub use span::launches;
