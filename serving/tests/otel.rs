//! Traces reach a collector: `cargo test -p tempograph-serving --features otel --test otel`.
#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{World, small};
use tempograph_serving::{LogKind, ServeSpec};
use tonic::codegen::{BoxFuture, Service};
use tonic::{Request, Response, Status};

/// The part of OTLP that the test reads.
#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfResource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfScope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Thanks {}

/// Stores the spans that it receives.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

impl Service<Request<Export>> for Collector {
    type Response = Response<Thanks>;
    type Error = Status;
    type Future = BoxFuture<Response<Thanks>, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Export>) -> Self::Future {
        let spans = request.into_inner().resources.into_iter().flat_map(|of| of.scopes).flat_map(|of| of.spans);
        self.0.lock().unwrap().extend(spans);
        Box::pin(async { Ok(Response::new(Thanks {})) })
    }
}

/// Starts a collector on a free port.
fn collect() -> (SocketAddr, Collector) {
    let collector = Collector::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let kept = collector.clone();
    let export = move |request: axum::extract::Request| {
        let kept = kept.clone();
        async move {
            tonic::server::Grpc::new(tonic_prost::ProstCodec::<Thanks, Export>::default()).unary(kept, request).await
        }
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let router = axum::Router::new()
                .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", axum::routing::post(export));
            axum::serve(listener, router).await.unwrap();
        });
    });
    (address, collector)
}

#[test]
fn a_request_is_a_span_of_its_callers_trace_with_its_stages_below_it() {
    let world = World::new(&small(), 0);
    world.engine();
    let (collector, spans) = collect();
    let mut spec = ServeSpec::default();
    spec.log.kind = LogKind::Memory;
    spec.traces.endpoint = Some(format!("http://{collector}"));
    spec.traces.sample = 0.0;
    spec.listen.http = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let (folder, address) = (world.folder(), spec.listen.http);
    std::thread::spawn(move || tempograph_serving::serve(&folder, &spec).unwrap());
    let ask = |path: &str, headers: &str, body: &str| {
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request = common::request(method, path, body).replace("\r\n\r\n", &format!("\r\n{headers}\r\n"));
        std::io::Write::write_all(&mut stream, request.as_bytes()).ok()?;
        Some(common::response(&mut stream).0)
    };
    let begun = Instant::now();
    while ask("/health/ready", "", "") != Some(200) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the server does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    // By the settings no request is traced. This one is, because its caller's trace is sampled.
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    assert_eq!(ask("/v1/score", parent, r#"{"queries":[{"src":1,"dst":2}]}"#), Some(200));
    let begun = Instant::now();
    while spans.0.lock().unwrap().len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "no spans come: {:?}", spans.0.lock().unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    let spans = spans.0.lock().unwrap();
    let by_name: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.name.as_str(), span)).collect();
    let (request, answer) = (by_name["request"], by_name["answer"]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        (hex(&request.trace_id).as_str(), hex(&request.parent_span_id).as_str()),
        ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    );
    assert_eq!((&answer.trace_id, &answer.parent_span_id), (&request.trace_id, &request.span_id));
    assert!(request.attributes.iter().any(|attribute| attribute.key == "route"));
}
