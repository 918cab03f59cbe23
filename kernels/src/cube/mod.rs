//! The kernels on GPUs: one source for every device that CubeCL drives, CUDA and Vulkan among them.
//!
//! What a plan holds goes to the device in one transfer, matrix products are the tensor library's, all else is a kernel here. Sums are taken in
//! a fixed order without atomics, so results do not change from run to run.
mod adam;
mod attention;
mod attention_backward;
mod dropout;
mod features;
mod gather;
mod grouping;
mod history;
mod linear;
mod math;
mod matrix;
mod memory;
mod memory_backward;
mod moving;
mod neighbours;
mod on_device;
mod pair_ends;
mod pairs;
mod past;
mod plans;
mod products;
mod projected;
mod reduce;
mod sampling;
mod scan;
mod span;
mod state;
mod time;
mod unique;
mod weights;
mod wide;

pub use history::{DeviceEvents, DeviceHistory, DeviceLog, DeviceRoots, DeviceRules, DeviceSampler, DeviceWorld, TooLarge};
pub use linear::Map;
pub use matrix::Matrix;
pub use moving::{DeviceState, StateLink, StateMail};
pub use pair_ends::PairEnds;
pub use pairs::{DevicePairs, PairDecoder, link_loss};
pub use past::{DeviceCell, DevicePast, Hop, HostMail, HostPast, UpdateKept};
pub use products::{Products, set_products};
pub use projected::{
    Attended, AttendedGradients, AttendedKept, attend, attend_backward, projection, projection_backward, table_backward, with_now,
    with_now_backward,
};
pub use span::launches;
pub use weights::{Learned, REMEMBERED, Weight, Weights};
