//! The constant inputs of operations, apart from their tensors: neighbours, mail, scored pairs.
pub(crate) mod adam;
pub(crate) mod dropout;
pub(crate) mod mail;
pub(crate) mod neighbours;
pub(crate) mod pairs;
pub(crate) mod rows;
