//! Settings as users write them: laid over one another, and explained where they do not fit.
pub(crate) mod nearest;
pub(crate) mod toml;
