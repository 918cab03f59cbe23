//! A server on a port of this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use prost::Message;
use tempograph_serving::proto::open_inference::ModelInferRequest;
use tempograph_serving::proto::tempograph::{EventsRequest, RankRequest, ScoreRequest};
use tempograph_serving::{LogKind, ServeSpec, Service, run};

const JSON: &str = "Content-Type: application/json\r\n";
const GRPC: &str = "Content-Type: application/grpc\r\nTE: trailers\r\n";

/// Path and headers of what takes a body, and one that is right; lines of a stream and gRPC's frames are bodies, too.
fn routes() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let event = r#"{"src":1,"dst":2,"time":2000000099,"features":[0.5,-1],"label":1,"id":"a"}"#;
    let tensors = r#"{"inputs":[{"name":"src","datatype":"INT64","shape":[1],"data":[1]},{"name":"dst","datatype":"UINT8","shape":[1],"data":[2]}]}"#;
    let frame = |message: Vec<u8>| [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let context = || frame(EventsRequest { events: vec![Default::default()], granularity: 1, ack: 2, on_error: 1 }.encode_to_vec());
    let score = ScoreRequest {
        pairs: vec![Default::default()],
        during: vec![Default::default()],
        terms: Some(Default::default()),
    };
    let infer =
        ModelInferRequest { model_name: "score".into(), inputs: vec![Default::default(); 2], ..Default::default() };
    vec![
        ("/v1/events", JSON, format!(r#"{{"events":[{event}],"granularity":"batch","ack":"durable"}}"#).into()),
        ("/v1/events/stream?batch=2", JSON, format!("{event}\n{event}\n").into()),
        ("/v1/score", JSON, format!(r#"{{"queries":[{{"src":1,"dst":2}}],"during":[{event}],"min_seq":0}}"#).into()),
        ("/v1/rank", JSON, r#"{"src":1,"candidates":[1,2],"time":2000000999,"k":4}"#.into()),
        ("/v1/explain", JSON, r#"{"src":1,"dst":2}"#.into()),
        ("/v1/retract", JSON, r#"{"ids":["a","b"]}"#.into()),
        ("/v2/models/score/infer", JSON, tensors.into()),
        ("/v2/models/score/infer", "Inference-Header-Content-Length: 64\r\n", tensors.into()),
        ("/tempograph.v1.Events/Send", GRPC, context()),
        ("/tempograph.v1.Events/Stream", GRPC, context()),
        ("/tempograph.v1.Reads/Score", GRPC, frame(score.encode_to_vec())),
        ("/tempograph.v1.Reads/Rank", GRPC, frame(RankRequest::default().encode_to_vec())),
        ("/inference.GRPCInferenceService/ModelInfer", GRPC, frame(infer.encode_to_vec())),
    ]
}

fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let artifact = crate::world::artifact(&tempfile::tempdir().expect("a folder").keep());
        let mut spec = ServeSpec::default();
        spec.log.kind = LogKind::Memory;
        (spec.limits.head_ms, spec.limits.body_ms, spec.limits.wait_ms) = (100, 100, 100);
        let service = Service::open(&artifact, &spec.service()).expect("a service");
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

/// Any bytes on a connection, or behind the head of a request, as the first byte says, are answered, and blamed on
/// nobody but the sender.
pub fn http(bytes: &[u8]) {
    let Some((&which, body)) = bytes.split_first() else { return };
    let (routes, mut stream) = (routes(), TcpStream::connect(server()).expect("the server listens"));
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let route = routes.get(usize::from(which));
    if let Some((path, headers, _)) = route {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: fuzz\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes());
    }
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(route.is_none() || text.starts_with("HTTP/1.1 "), "no answer");
    assert!(
        !text.starts_with("HTTP/1.1 500") && !text.contains("bug") && !text.contains("grpc-status: 2\r\n"),
        "{text}"
    );
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let heads = [
        "GET /v1/embedding?node=1&side=source HTTP/1.1\r\nHost: fuzz\r\nConnection: close\r\ndeadline-ms: 100\r\nTenant: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ];
    let bodies = routes().into_iter().enumerate().map(|(which, (_, _, body))| [vec![which as u8], body].concat());
    bodies.chain(heads.map(|head| [&[u8::MAX], head.as_bytes()].concat())).collect()
}
