//! Settings as users write them: overrides, and explanations of errors.
pub(crate) mod count;
pub(crate) mod nearest;
pub(crate) mod toml;
