//! The server's metrics, logs and traces.
pub(crate) mod audit;
pub(crate) mod metrics;
#[cfg(feature = "otel")]
pub(crate) mod otel;
pub(crate) mod trace;
