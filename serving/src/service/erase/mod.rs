//! Taking events back, and forgetting nodes that have been idle for long.
pub(crate) mod expire;
pub(crate) mod retract;
