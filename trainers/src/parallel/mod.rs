//! The lanes of a plan: their histories, the batches prepared ahead, and one step of all lanes together.
pub(crate) mod batch_builder;
pub(crate) mod group;
pub(crate) mod lanes;
pub(crate) mod layout;
pub(crate) mod pipeline;
pub(crate) mod prefetch;
