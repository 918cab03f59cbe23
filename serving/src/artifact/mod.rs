//! Artifacts: a folder with a model and the history that it has seen, verified when it is opened.
pub(crate) mod export;
pub(crate) mod features;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod open;
pub(crate) mod past;
