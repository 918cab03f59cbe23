//! What was exported: a model with the history it has seen, in one file that is verified whole.
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod past;
