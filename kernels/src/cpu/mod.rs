//! The kernels on slices of host memory: rayon for threads, vectors in the loops, no tensor library.
//!
//! Work is split in chunks of fixed size and partial sums are added in the order of their chunks, so that
//! a result does not depend on the number of threads.
pub(crate) mod attention;
mod common_rows;
pub(crate) mod gather;
mod memory;
mod pair_rows;
mod pairs;
pub(crate) mod product;
pub(crate) mod vector;

pub use crate::plan::neighbours::AttentionPlanRef;
pub use attention::NeighbourTable;
pub use attention::projected::{ProjectedAttention, ProjectionGradients, ProjectionWeights, head_stride};
pub use common_rows::CommonRows;
pub use memory::recurrent::RecurrentCell;
pub use memory::{CellGradients, CellWeights, MemoryUpdate};
pub use pair_rows::{PairEnds, PairRows};
pub use pairs::{PairGradients, PairInputs, PairScores};
pub use product::bf16::Precision;
pub use product::gelu::{drop_rows, gelu_rows, gelu_rows_backward};
pub use product::layer_norm::LayerNorm;
pub use product::linear::{Activation, InputGradient, Linear, LinearWeights, PaddedRows, relu_backward};
pub use product::rows::pairwise_dot_products;
pub use product::tokens::{TokenTimeGradients, group_means, group_means_backward, token_rows, transpose_groups};
pub use product::version::Version;
pub use product::window::{WindowMeans, WindowRows};
pub use vector::adam::step as adam_step;
pub use vector::math::{add, add_time_gradient, cos_row, rectify, sin_row};
pub use vector::norm::{first_not_finite, sum_of_squares};
pub use vector::parallel::join_if;
pub use vector::simd::SimdLevel;
pub use vector::spin::{on_each_thread, with_spinning_workers};
pub use vector::time::TimeWeights;
