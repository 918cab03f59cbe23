//! Loops over rows of numbers, split for vectors and for threads.
pub(crate) mod adam;
pub(crate) mod blocks;
pub(crate) mod groups;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod parallel;
pub(crate) mod simd;
pub(crate) mod spin;
pub(crate) mod time;
