//! Operations on pairs, and heads.
pub(crate) mod common;
pub(crate) mod decoder;
pub(crate) mod head;
