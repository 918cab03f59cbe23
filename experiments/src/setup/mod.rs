//! What a command works on: a spec, its data, a device, a model, runs and their folders.
pub mod allocations;
pub(crate) mod baselines;
pub(crate) mod data;
pub mod device;
pub(crate) mod folder;
pub(crate) mod machine;
pub(crate) mod model;
pub(crate) mod python;
pub(crate) mod ranks;
pub(crate) mod runs;
pub mod spec;
