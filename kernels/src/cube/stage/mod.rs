//! The stages of models on the device, each on whole tables.
pub(crate) mod centres;
pub(crate) mod decoder;
pub(crate) mod node_rows;
pub(crate) mod norm;
pub(crate) mod projected;
pub(crate) mod projection;
pub(crate) mod rows;
