//! The kernels on GPUs: one source for every device that CubeCL drives, CUDA and Vulkan among them.
//!
//! A plan goes to the device in one transfer. Matrix products are the tensor library's; everything else is a kernel
//! here. Sums are in a fixed order without atomics, so results do not change from run to run.
pub(crate) mod array;
mod history;
pub(crate) mod kernel;
pub(crate) mod launch;
pub(crate) mod stage;

pub use array::layout::{Block, WeightLayout, with_one};
pub use array::matrix::Matrix;
pub use array::products::{ProductPrecision, set_product_precision};
pub use array::weights::{MAX_UNREAD_STEPS, StepRecord, Weight, Weights};
pub use history::DeviceHistory;
pub use history::inputs::{DeviceDataset, DeviceEvents, DeviceLog, DeviceRoots, DeviceRules, DeviceSampler, TooLarge};
pub use history::mail::{MailRows, mail_rows};
pub use history::past::{
    CellBlocks, CellOffsets, DeviceCell, DeviceView, FetchedMail, FetchedView, Hop, SavedMemoryUpdate,
};
pub use history::sent::{HostHop, HostRows, HostView, ViewUploader};
pub use history::transfer::{DeviceState, StateLink, StateMail};
pub use kernel::time::{TimeBlock, TimeEncoding, TimeGradientPartials};
pub use launch::buffer::{PendingRead, launches, launches_by_source_line};
pub use stage::centres::{at_centres, at_centres_backward};
pub use stage::decoder::{DecoderBlocks, DecoderOffsets, PairDecoder, SavedDecoder};
pub use stage::node_rows::{
    NodeInputBlocks, NodeInputOffsets, NodeInputWidths, NodeInputs, NodeRows, SavedNodeInputs, VectorDropout,
};
pub use stage::norm::{NormBlock, NormGradients, ResidualNorm, SavedNorm};
pub use stage::projected::{
    AttentionGradients, AttentionInputs, ByHead, SavedAttention, attend, attend_backward, share_edge,
    share_edge_backward, table_backward,
};
pub use stage::projection::{IdleUnits, Projection, ProjectionBlock};
pub use stage::rows::{merge, merge_backward, query_rows, relu, relu_backward};
