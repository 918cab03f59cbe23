//! After any bytes, the server answers, blames the client, and is unchanged.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Duration;

use crate::common::{Running, World, small};
use proptest::prelude::*;
use prost::Message;
use tempograph_serving::ServeSpec;
use tempograph_serving::proto::open_inference::ModelInferRequest;
use tempograph_serving::proto::tempograph::{EventsRequest, ScoreRequest};

/// One server for all cases, so that an effect of one case shows in the next.
fn server() -> &'static Running {
    static SERVER: OnceLock<(World, Running)> = OnceLock::new();
    &SERVER
        .get_or_init(|| {
            let world = World::new(&small(), 2);
            let mut spec = ServeSpec::default();
            (spec.limits.head_ms, spec.limits.body_ms, spec.limits.wait_ms) = (50, 200, 100);
            let server = Running::with(&world, &spec);
            (world, server)
        })
        .1
}

const TENSORS: &str = r#"{"inputs":[{"name":"src","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}},{"name":"dst","datatype":"UINT8","shape":[1],"data":[2]}],"outputs":[{"name":"score","parameters":{"binary_data":true}}],"parameters":{"k":3,"timeout":1000}}"#;

/// Requests that are valid, or nearly: path, headers, body.
fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let framed = |message: Vec<u8>| [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let grpc = "Content-Type: application/grpc\r\nTE: trailers\r\n".to_string();
    let event = r#"{"src":1,"dst":2,"time":99999999,"features":[0.5,-1],"label":1,"id":"a"}"#;
    let json = "Content-Type: application/json\r\n";
    let plain = |path, body: &str| (path, json.to_string(), body.as_bytes().to_vec());
    let score = ScoreRequest {
        pairs: vec![Default::default()],
        during: vec![Default::default()],
        terms: Some(Default::default()),
    };
    let submitted = EventsRequest { events: vec![Default::default()], granularity: 1, ack: 2, on_error: 1 };
    let infer = ModelInferRequest {
        model_name: "score".into(),
        inputs: vec![Default::default(), Default::default()],
        raw_input_contents: vec![vec![1; 8].into(), vec![2; 8].into()],
        ..Default::default()
    };
    vec![
        plain("/v1/events", &format!(r#"{{"events":[{event}],"granularity":"batch","ack":"durable"}}"#)),
        plain("/v1/events/stream?batch=2&receipts=batch", &format!("{event}\n{event}\n{event}")),
        plain(
            "/v1/score",
            &format!(
                r#"{{"queries":[{{"src":1,"dst":2,"time":1e9}}],"during":[{event}],"min_seq":0,"max_staleness_ms":9}}"#
            ),
        ),
        plain("/v1/rank", r#"{"src":1,"candidates":[1,2],"time":99999999,"k":4}"#),
        plain("/v1/explain", r#"{"src":1,"dst":2,"time":99999999}"#),
        plain("/v1/retract", r#"{"ids":["a","b"]}"#),
        (
            "/v2/models/score/infer",
            format!("Inference-Header-Content-Length: {}\r\n", TENSORS.len()),
            [TENSORS.as_bytes(), &[1; 8]].concat(),
        ),
        ("/tempograph.v1.Reads/Score", grpc.clone(), framed(score.encode_to_vec())),
        ("/tempograph.v1.Events/Send", grpc.clone(), framed(submitted.encode_to_vec())),
        ("/tempograph.v1.Events/Stream", grpc.clone(), framed(submitted.encode_to_vec())),
        ("/inference.GRPCInferenceService/ModelInfer", grpc, framed(infer.encode_to_vec())),
    ]
}

/// A change of some bytes.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index, usize),
    Put(prop::sample::Index, Vec<u8>),
    Again(prop::sample::Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    const ODD: [&str; 11] = [
        "-1",
        "1e400",
        "18446744073709551616",
        "null",
        "[[[[",
        "\"",
        "{}",
        "9223372036854775807",
        "\u{0}",
        "\n",
        "NaN",
    ];
    let put = prop_oneof![
        prop::sample::select(&ODD[..]).prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..6)
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<prop::sample::Index>(), 1..9_usize).prop_map(|(at, count)| Edit::Cut(at, count)),
        (any::<prop::sample::Index>(), put).prop_map(|(at, bytes)| Edit::Put(at, bytes)),
        (any::<prop::sample::Index>(), 1..40_usize).prop_map(|(at, count)| Edit::Again(at, count)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let at = |index: &prop::sample::Index, bytes: &[u8]| index.index(bytes.len() + 1);
    match edit {
        Edit::Set(place, byte) if !bytes.is_empty() => {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        Edit::Set(..) => {}
        Edit::Cut(place, count) => {
            let from = at(place, bytes);
            bytes.drain(from..(from + count).min(bytes.len()));
        }
        Edit::Put(place, put) => {
            let from = at(place, bytes);
            bytes.splice(from..from, put.iter().copied());
        }
        Edit::Again(place, count) => {
            let from = at(place, bytes);
            let again = bytes[from..(from + count).min(bytes.len())].to_vec();
            bytes.splice(from..from, again);
        }
    }
}

/// Status and the rest of the answer; `None` where the connection is closed without one.
fn send(bytes: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(server().address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may close the connection before everything is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some((status, text))
}

/// The server is unchanged: it blames only the client, and still answers correctly.
fn check(sent: &str, answer: Option<(u16, String)>) {
    let (status, text) = answer.unwrap_or_else(|| panic!("no answer to {sent}"));
    assert!(status < 500 || [503, 504].contains(&status), "{sent}: {text}");
    assert!(!text.contains("bug"), "{sent}: {text}");
    // A method that panicked gives no status, or this one.
    assert!(!text.contains("grpc-status: 2\r\n"), "{sent}: {text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn spoilt_requests_are_answered_and_never_the_servers_fault(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec(edit(), 0..6),
    ) {
        let seeds = seeds();
        let (path, headers, mut body) = seeds[which.index(seeds.len())].clone();
        edits.iter().for_each(|edit| apply(&mut body, edit));
        let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        let sent = [head.as_bytes(), &body].concat();
        check(&String::from_utf8_lossy(&sent), send(&sent));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn spoilt_heads_and_any_bytes_at_all_leave_the_server_as_it_was(
        edits in prop::collection::vec(edit(), 1..5),
        noise in prop::collection::vec(any::<u8>(), 0..200),
        whole in any::<bool>(),
    ) {
        let mut sent = b"GET /v1/embedding?node=1&side=source&time=99999999 HTTP/1.1\r\nHost: test\r\nConnection: close\r\ndeadline-ms: 100\r\nTenant: x\r\n\r\n".to_vec();
        edits.iter().for_each(|edit| apply(&mut sent, edit));
        if whole {
            sent = noise;
        }
        if let Some((status, text)) = send(&sent) {
            prop_assert!(status < 500 || [503, 504, 505].contains(&status), "{text}");
        }
        prop_assert_eq!(server().get("/health/ready").0, 200);
    }
}
