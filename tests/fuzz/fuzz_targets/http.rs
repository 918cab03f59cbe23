//! Any bytes on a connection, or behind the head of a request: first byte of the input says which route, or none.
#![no_main]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tempograph_framework::{Dataset, Features, History, Model};
use tempograph_kernels::tensor::Cpu;
use tempograph_models::{FeatureWidths, Tgn, TgnSpec};
use tempograph_serving::{Export, LogKind, ServeSpec, Service, run};

const GRPC: &str = "Content-Type: application/grpc\r\nTE: trailers\r\n";

/// Path and headers of what takes a body.
const ROUTES: [(&str, &str); 9] = [
    ("/v1/events", ""),
    ("/v1/events/stream", ""),
    ("/v1/score", ""),
    ("/v1/rank", ""),
    ("/v1/explain", ""),
    ("/v2/models/score/infer", "Inference-Header-Content-Length: 64\r\n"),
    ("/tempograph.v1.Events/Send", GRPC),
    ("/tempograph.v1.Reads/Score", GRPC),
    ("/inference.GRPCInferenceService/ModelInfer", GRPC),
];

fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep().join("artifact");
        let dataset = Dataset::from_spec("synthetic:events=200,users=10,items=8").expect("a stream");
        let spec = TgnSpec { memory: 4, time: 4, width: 4, ..TgnSpec::default() };
        let widths = FeatureWidths::default();
        let model = Tgn::<Cpu>::new(&spec, widths, 1, &Default::default());
        let history = History::new(dataset.nodes, model.needs(), dataset.log.time()[0], Features::default());
        Export { model: &model, history: &history, dataset: &dataset, widths, batch: 50, replace: true }.write(&folder).expect("an artifact");
        let mut spec = ServeSpec::default();
        spec.log.kind = LogKind::Memory;
        (spec.limits.head_ms, spec.limits.body_ms) = (100, 100);
        let service = Service::open(&folder, &spec.service()).expect("a service");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                run(vec![listener], std::future::ready(Ok(service)), &spec, std::future::pending()).await
            })
        });
        address
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, body)) = bytes.split_first() else { return };
    let mut stream = TcpStream::connect(server()).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    if let Some((path, headers)) = ROUTES.get(usize::from(which)) {
        let head = format!("POST {path} HTTP/1.1\r\nHost: fuzz\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes());
    }
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    if usize::from(which) < ROUTES.len() {
        assert!(text.starts_with("HTTP/1.1 "), "no answer");
    }
    assert!(!text.starts_with("HTTP/1.1 500") && !text.contains("this is a bug"), "{text}");
});
