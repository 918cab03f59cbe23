//! The operations that models are made of. Each is a whole stage; none is named after a model.
pub(crate) mod layers;
pub(crate) mod mailbox;
pub(crate) mod memory;
pub(crate) mod pairs;
pub(crate) mod tables;
