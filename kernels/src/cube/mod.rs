//! The kernels on GPUs: one source for every device that CubeCL drives, CUDA and Vulkan among them.
//!
//! What a plan holds goes to the device in one transfer, matrix products are the tensor library's, all else is a kernel here. Sums are taken in
//! a fixed order without atomics, so results do not change from run to run.
pub(crate) mod array;
mod history;
pub(crate) mod kernel;
pub(crate) mod launch;
pub(crate) mod stage;

pub use array::layout::{Block, Layout, with_one};
pub use array::matrix::Matrix;
pub use array::products::{Products, set_products};
pub use array::weights::{Learned, REMEMBERED, Weight, Weights};
pub use history::DeviceHistory;
pub use history::mail::{SaidRows, said};
pub use history::moving::{DeviceState, StateLink, StateMail};
pub use history::past::{CellBlocks, CellNumbers, DeviceCell, DevicePast, Hop, HostMail, HostPast, UpdateKept};
pub use history::sent::{HostRows, PastSender, ReadHop, ReadPast};
pub use history::world::{DeviceEvents, DeviceLog, DeviceRoots, DeviceRules, DeviceSampler, DeviceWorld, TooLarge};
pub use kernel::time::{TimeBlock, TimeEncoding, TimeShares};
pub use launch::span::{Arriving, launches, launches_by_place};
pub use stage::centres::{at_centres, at_centres_backward};
pub use stage::decoder::{Decoded, DecoderBlocks, DecoderNumbers, PairDecoder};
pub use stage::node_rows::{Beside, BesideBlocks, BesideNumbers, BesideWidths, Hidden, NodeRows, Shown};
pub use stage::norm::{NormBlock, NormGradients, Normed, ResidualNorm};
pub use stage::projected::{
    Attended, AttendedGradients, AttendedKept, ByHead, attend, attend_backward, share_edge, share_edge_backward,
    table_backward,
};
pub use stage::projection::{IdleUnits, Projection, ProjectionBlock};
pub use stage::rows::{asking, merge, merge_backward, rectified, rectified_backward};
