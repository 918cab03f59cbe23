//! Log lines as text or JSON, and with the feature `otel` traces for an OpenTelemetry collector.

use std::io;

use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The section `logging` of a server's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingSpec {
    /// The form of the lines on standard error.
    pub format: LogFormat,
    /// Which lines are written: `error`, `warn`, `info`, `debug` or `trace`, or a list such as
    /// `warn,tempograph_serving=debug`.
    pub level: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl Default for LoggingSpec {
    fn default() -> LoggingSpec {
        LoggingSpec { format: LogFormat::Text, level: "info".into() }
    }
}

/// The section `traces` of a server's settings. Needs a program built with the feature `otel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesSpec {
    /// The collector's address for OTLP over gRPC, such as `http://127.0.0.1:4317`; left out, no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Share of the requests that are traced. A request with a `traceparent` is traced if its caller's trace is.
    pub sample: f64,
    /// The server's name in its traces.
    pub service: String,
}

impl Default for TracesSpec {
    fn default() -> TracesSpec {
        TracesSpec { endpoint: None, sample: 0.01, service: "tempograph".into() }
    }
}

impl LoggingSpec {
    /// # Errors
    /// A sentence naming the key and its value.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.filter().map(|_| ())
    }

    fn filter(&self) -> Result<EnvFilter, String> {
        EnvFilter::try_new(&self.level).map_err(|error| format!("logging.level = \"{}\": {error}", self.level))
    }
}

impl TracesSpec {
    /// # Errors
    /// A sentence naming the key and its value.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(format!("traces.sample = {}; it is from 0 to 1", self.sample));
        }
        if cfg!(not(feature = "otel")) && self.endpoint.is_some() {
            return Err("traces.endpoint is given, but this program was built without the feature `otel`".into());
        }
        Ok(())
    }
}

/// Sends traces. Sends the remaining ones when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Tracing {
    #[cfg(feature = "otel")]
    _provider: Option<crate::observe::otel::Provider>,
}

/// Starts logs and traces with these settings. A process has one subscriber; an existing one stays.
///
/// # Errors
/// A sentence naming the invalid key. Must be called inside a tokio runtime if there are traces.
pub(crate) fn start(logging: &LoggingSpec, traces: &TracesSpec) -> Result<Tracing, String> {
    traces.check()?;
    let lines = match logging.format {
        LogFormat::Text => tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    let lines = lines.with_filter(logging.filter()?);
    let registry = Registry::default().with(lines);
    #[cfg(feature = "otel")]
    if let Some((layer, provider)) = crate::observe::otel::layer(traces)? {
        // An existing subscriber stays.
        let _ = registry.with(layer).try_init();
        return Ok(Tracing { _provider: Some(provider) });
    }
    let _ = registry.try_init();
    Ok(Tracing::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let logging = LoggingSpec { level: "tempograph=loud".into(), ..LoggingSpec::default() };
        assert!(logging.check().unwrap_err().contains("logging.level = \"tempograph=loud\""));
        let traces = TracesSpec { sample: 1.5, ..TracesSpec::default() };
        assert!(traces.check().unwrap_err().contains("traces.sample = 1.5"));
        assert!(LoggingSpec::default().check().is_ok() && TracesSpec::default().check().is_ok());
    }
}
