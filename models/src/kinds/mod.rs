//! Kinds of models, one per file: paper, equations, settings, and how it differs.
pub(crate) mod apan;
pub(crate) mod dyrep;
pub(crate) mod graphmixer;
pub(crate) mod jodie;
pub(crate) mod static_only;
pub(crate) mod tgat;
pub(crate) mod tgn;
pub(crate) mod tncn;
