//! The kernels on slices of host memory: rayon above, vectors below, no tensor library.
//!
//! Work is split in chunks of fixed size and partial sums are added in the order of their chunks, so that
//! a result does not depend on the number of threads.
pub(crate) mod adam;
pub(crate) mod attention;
pub(crate) mod attention_backward;
mod blocks;
mod cell;
pub(crate) mod gather;
pub(crate) mod gemm;
mod groups;
mod mail_tile;
pub(crate) mod math;
pub(crate) mod memory;
pub(crate) mod memory_backward;
pub(crate) mod simd;
pub(crate) mod time;
