//! Numbers of many runs, as medians and pictures.
pub(crate) mod busy;
pub(crate) mod plot;
pub(crate) mod stats;
