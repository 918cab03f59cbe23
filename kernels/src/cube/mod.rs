//! The kernels on GPUs: one source for every device that CubeCL drives, CUDA and Vulkan among them.
//!
//! What a plan holds goes to the device in one transfer, matrix products are the tensor library's, all else is a kernel here. Sums are taken in
//! a fixed order without atomics, so results do not change from run to run.
mod adam;
mod attention;
mod attention_backward;
mod beside;
mod centres;
mod decoder;
mod dropout;
mod features;
mod gather;
mod grouping;
mod history;
mod layout;
mod linear;
mod look;
mod math;
mod matrix;
mod memory;
mod memory_backward;
mod moving;
mod neighbours;
mod norm;
mod on_device;
mod pairs;
mod past;
mod plans;
mod products;
mod projected;
mod projection;
mod reduce;
mod rows;
mod said;
mod sampling;
mod scan;
mod sent;
mod settle;
mod span;
mod state;
mod time;
mod unique;
mod weights;
mod wide;
mod world;

pub use beside::{Beside, BesideBlocks, BesideNumbers, BesideWidths, Hidden, NodeRows, Shown};
pub use centres::{at_centres, at_centres_backward};
pub use decoder::{Decoded, DecoderBlocks, DecoderNumbers, PairDecoder};
pub use history::DeviceHistory;
pub use layout::{Block, Layout, with_one};
pub use matrix::Matrix;
pub use moving::{DeviceState, StateLink, StateMail};
pub use norm::{NormBlock, NormGradients, Normed, ResidualNorm};
pub use past::{CellBlocks, CellNumbers, DeviceCell, DevicePast, Hop, HostMail, HostPast, UpdateKept};
pub use products::{Products, set_products};
pub use projected::{
    Attended, AttendedGradients, AttendedKept, ByHead, attend, attend_backward, share_edge, share_edge_backward,
    table_backward,
};
pub use projection::{IdleUnits, Projection, ProjectionBlock};
pub use rows::{asking, merge, merge_backward, rectified, rectified_backward};
pub use said::{SaidRows, said};
pub use sent::{HostRows, PastSender, ReadHop, ReadPast};
pub use span::{Arriving, launches, launches_by_place};
pub use time::{TimeBlock, TimeEncoding, TimeShares};
pub use weights::{Learned, REMEMBERED, Weight, Weights};
pub use world::{DeviceEvents, DeviceLog, DeviceRoots, DeviceRules, DeviceSampler, DeviceWorld, TooLarge};
