//! Spans of requests and their stages, sent to an OpenTelemetry collector.

use axum::http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::observe::trace::TracesSpec;

/// The trace provider. Sends the remaining spans when it is dropped.
#[derive(Debug)]
pub(crate) struct Provider(SdkTracerProvider);

impl Drop for Provider {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// A layer that sends spans to the spec's collector, if it has one. Must be called inside a tokio runtime.
///
/// # Errors
/// A sentence naming the invalid key.
pub(crate) fn layer<S>(spec: &TracesSpec) -> Result<Option<(impl Layer<S> + use<S>, Provider)>, String>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let Some(endpoint) = &spec.endpoint else { return Ok(None) };
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.clone()).build();
    let exporter = exporter.map_err(|error| format!("traces.endpoint = \"{endpoint}\": {error}"))?;
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(spec.sample)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name(spec.service.clone()).build())
        .build();
    // Only the server's own spans; those of libraries are many and of little use.
    let filter = EnvFilter::try_new("off,tempograph_serving=debug").map_err(|error| error.to_string())?;
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tempograph")).with_filter(filter);
    Ok(Some((layer, Provider(provider))))
}

/// Makes `span` part of the caller's trace, if the headers name one (`traceparent`).
pub(crate) fn continue_from(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    // Fails only for a span that is not recorded, which needs no parent.
    let _ = span.set_parent(parent);
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}
