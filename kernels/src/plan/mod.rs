//! What operations are computed from, apart from their tensors: who attends to whom, which mail is read, which pairs are scored.
pub(crate) mod adam;
pub(crate) mod dropout;
pub(crate) mod mail;
pub(crate) mod neighbours;
pub(crate) mod pairs;
pub(crate) mod rows;
