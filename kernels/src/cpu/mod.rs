//! The kernels on slices of host memory: rayon above, vectors below, no tensor library.
//!
//! Work is split in chunks of fixed size and partial sums are added in the order of their chunks, so that
//! a result does not depend on the number of threads.
mod adam;
pub(crate) mod attention;
mod attention_backward;
mod awake;
mod bf16;
mod blocks;
mod cell;
pub(crate) mod gather;
pub(crate) mod gemm;
mod groups;
mod layer_norm;
mod linear;
pub(crate) mod math;
mod memory;
mod norm;
mod pairs;
pub(crate) mod parallel;
mod products;
mod projected;
mod recurrent;
mod scratch;
pub(crate) mod simd;
pub(crate) mod time;
mod version;

pub use adam::step as adam_step;
pub use attention::{Attending, Table};
pub use awake::{on_each_thread, stay_awake};
pub use bf16::Precision;
pub use layer_norm::LayerNorm;
pub use linear::{Activation, InputGradient, Linear, LinearWeights, PaddedRows, mask};
pub use math::{add, add_time_gradient, cos_row, sin_row};
pub use memory::{CellGradients, CellWeights, MemoryUpdate};
pub use norm::sum_of_squares;
pub use pairs::{PairGradients, PairInputs, PairScores};
pub use parallel::join_if;
pub use products::products_of_rows;
pub use projected::{ProjectedAttention, ProjectionGradients, ProjectionWeights, head_stride};
pub use recurrent::RecurrentCell;
pub use simd::Level;
pub use time::TimeWeights;
pub use version::Version;
