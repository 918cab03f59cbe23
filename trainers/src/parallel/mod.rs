//! The lanes of a plan: their histories, their batches made ahead of time, and their steps together.
pub(crate) mod batch_builder;
pub(crate) mod group;
pub(crate) mod lanes;
pub(crate) mod layout;
pub(crate) mod pipeline;
pub(crate) mod prefetch;
