//! Tables in memory, in memory that processes share, and in files. This module does not depend on graphs.
pub(crate) mod buffer;
pub(crate) mod column;
pub(crate) mod contained;
pub(crate) mod partitioned_map;
pub(crate) mod reserved;
pub(crate) mod shared;
pub(crate) mod store;
pub(crate) mod store_parts;
