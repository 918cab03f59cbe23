//! Retracts events and expires idle nodes.
pub(crate) mod expire;
pub(crate) mod retract;
