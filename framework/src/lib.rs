//! The vocabulary and the contracts of temporal graph networks with memory.
mod ids;

pub use ids::{EventId, NodeId, Timestamp};
