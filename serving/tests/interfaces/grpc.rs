//! The typed API over gRPC has the answers and refusals of HTTP.

use std::time::Duration;

use crate::common::grpc::Grpc;
use crate::common::{EVENTS, Running, SEEN, World, floats, small};
use serde_json::json;
use tempograph_serving::NewEvent;
use tempograph_serving::proto::tempograph::{
    Ack, EmbedRequest, Event, EventsRequest, ExplainRequest, ModelRequest, Pair, RankRequest, Receipt, ScoreRequest,
    Side, Terms, event, pair,
};
use tokio_stream::StreamExt;
use tonic::{Code, Request};

fn message(event: &NewEvent) -> Event {
    Event {
        id: event.id.clone().unwrap_or_default(),
        src: event.src.number().unwrap(),
        dst: event.dst.number().unwrap(),
        when: Some(event::When::Time(event.time.as_i64().unwrap())),
        label: event.label,
        features: event.features.clone().unwrap_or_default(),
        ..Event::default()
    }
}

fn messages(world: &World, range: std::ops::Range<usize>) -> Vec<Event> {
    world.new_events(range).iter().map(message).collect()
}

fn pair_of(src: u64, dst: u64) -> Pair {
    Pair { src, dst, ..Pair::default() }
}

#[test]
fn answers_are_those_of_http() {
    let world = World::new(&small(), 2);
    let server = Running::start(&world);
    let mut grpc = Grpc::connect(server.address);
    let events = messages(&world, SEEN..SEEN + 10);
    let request = EventsRequest { events, ack: Ack::Applied.into(), ..EventsRequest::default() };
    let receipt = grpc.events(|mut events| async move { events.send(request).await }).unwrap();
    assert_eq!(
        (receipt.first_seq, receipt.accepted, receipt.position.unwrap().log_seq),
        (SEEN as u64, 10, SEEN as u64 + 10)
    );

    let during = messages(&world, SEEN + 10..SEEN + 12);
    let request = ScoreRequest { pairs: vec![pair_of(1, 2), pair_of(3, 4)], during, terms: None };
    let scored = grpc.reads(|mut reads| async move { reads.score(request).await }).unwrap();
    let shown = world.new_events(SEEN + 10..SEEN + 12);
    let (_, http) = server
        .post("/v1/score", &json!({ "queries": [{ "src": 1, "dst": 2 }, { "src": 3, "dst": 4 }], "during": shown }));
    assert_eq!(scored.scores, floats(&http["scores"]));
    assert_eq!(scored.probabilities, floats(&http["probabilities"]));
    let position = scored.position.unwrap();
    assert_eq!(
        (json!(position.log_seq), json!(position.version), json!(position.model)),
        (http["log_seq"].clone(), http["version"].clone(), http["model"].clone())
    );

    let ranked = grpc
        .reads(|mut reads| async move { reads.rank(RankRequest { src: 3, k: 4, ..RankRequest::default() }).await })
        .unwrap();
    let (_, http) = server.post("/v1/rank", &json!({ "src": 3, "k": 4 }));
    let submitted = http["ranked"].as_array().unwrap();
    assert_eq!(ranked.ranked.len(), submitted.len());
    for (one, http) in ranked.ranked.iter().zip(submitted) {
        assert_eq!((json!(one.dst), one.score), (http["dst"].clone(), http["score"].as_f64().unwrap() as f32));
    }

    let request = EmbedRequest { node: 3, side: Side::Source.into(), ..EmbedRequest::default() };
    let embedded = grpc.reads(|mut reads| async move { reads.embed(request).await }).unwrap();
    assert_eq!(embedded.embedding, floats(&server.get("/v1/embedding?node=3&side=source").1["embedding"]));

    let model = grpc.reads(|mut reads| async move { reads.model(ModelRequest {}).await }).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&model.manifest).unwrap();
    assert_eq!(manifest, server.get("/v1/model").1["manifest"]);
}

#[test]
fn refusals_name_the_place_and_have_the_status_of_their_kind() {
    let world = World::new(&small(), 2);
    let server = Running::start(&world);
    let mut grpc = Grpc::connect(server.address);
    let good = message(&world.new_events(SEEN..SEEN + 1)[0]);
    let cases = [
        (Event { when: None, ..good.clone() }, Code::InvalidArgument, "events[1].time is missing", "invalid"),
        (
            Event { when: Some(event::When::FractionalTime(f64::NAN)), ..good.clone() },
            Code::InvalidArgument,
            "events[1].time is NaN",
            "invalid",
        ),
        (
            Event { when: Some(event::When::Time(0)), ..good.clone() },
            Code::FailedPrecondition,
            "events[1].time is 0, which is before",
            "late",
        ),
        (
            Event { features: vec![0.5], ..good.clone() },
            Code::InvalidArgument,
            "events[1].features has 1 values",
            "invalid",
        ),
        (
            Event { label: f32::INFINITY, ..good.clone() },
            Code::InvalidArgument,
            "events[1].label is not a finite",
            "invalid",
        ),
    ];
    for (bad, code, says, word) in cases {
        let request = EventsRequest { events: vec![good.clone(), bad], ..EventsRequest::default() };
        let status = grpc.events(|mut events| async move { events.send(request).await }).unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(says), "{status}");
        assert_eq!(status.metadata().get("tempograph-code").unwrap(), word);
    }
    let status = grpc.reads(|mut reads| async move {
        reads.score(ScoreRequest { pairs: vec![pair_of(1, 2), pair_of(99, 2)], ..ScoreRequest::default() }).await
    });
    let status = status.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "queries[1].src: no source has the id 99"));
    let request = EventsRequest { ack: 17, ..EventsRequest::default() };
    assert_eq!(
        grpc.events(|mut events| async move { events.send(request).await }).unwrap_err().message(),
        "ack is 17, which is none"
    );
    let request = Pair { when: Some(pair::When::Time(0)), ..pair_of(1, 2) };
    let status = grpc
        .reads(|mut reads| async move {
            reads.score(ScoreRequest { pairs: vec![request], ..ScoreRequest::default() }).await
        })
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let status = grpc.reads(|mut reads| async move { reads.explain(ExplainRequest::default()).await }).unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "pair is missing"));
    assert_eq!(server.service.position().log_seq, SEEN as u64);
}

#[test]
fn a_stream_has_a_receipt_for_each_of_its_requests_in_order() {
    let world = World::new(&small(), 2);
    let server = Running::start(&world);
    let mut grpc = Grpc::connect(server.address);
    let requests: Vec<EventsRequest> = (SEEN..EVENTS)
        .step_by(7)
        .map(|start| EventsRequest {
            events: messages(&world, start..(start + 7).min(EVENTS)),
            ..EventsRequest::default()
        })
        .collect();
    let sizes: Vec<u64> = requests.iter().map(|request| request.events.len() as u64).collect();
    let receipts = grpc.events(|events| collect(events, requests)).unwrap();
    let mut first = SEEN as u64;
    assert_eq!(receipts.len(), sizes.len());
    for (receipt, size) in receipts.iter().zip(sizes) {
        assert_eq!((receipt.first_seq, receipt.accepted), (first, size));
        first += size;
    }
    let mut offline = world;
    offline.observe_all(SEEN..EVENTS, 1);
    assert!(server.service.engine().history().to_store() == offline.history.to_store());
}

async fn collect(
    mut events: tempograph_serving::proto::tempograph::events_client::EventsClient<crate::common::grpc::Served>,
    requests: Vec<EventsRequest>,
) -> Result<tonic::Response<Vec<Receipt>>, tonic::Status> {
    let mut stream = events.stream(tokio_stream::iter(requests)).await?.into_inner();
    let mut receipts = Vec::new();
    while let Some(receipt) = stream.next().await {
        receipts.push(receipt?);
    }
    Ok(tonic::Response::new(receipts))
}

#[test]
fn a_refused_request_ends_its_stream_and_says_which_it_was() {
    let world = World::new(&small(), 2);
    let server = Running::start(&world);
    let mut grpc = Grpc::connect(server.address);
    let mut requests: Vec<EventsRequest> = (0..5)
        .map(|i| EventsRequest { events: messages(&world, SEEN + i..SEEN + i + 1), ..EventsRequest::default() })
        .collect();
    requests[3].events[0].features.clear();
    let status = grpc.events(|events| collect(events, requests)).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("request 3 of the stream: events[0].features is missing"), "{status}");
    assert_eq!(server.service.position().log_seq, SEEN as u64 + 3, "what came before it stands, and nothing after");
}

#[test]
fn a_deadline_is_kept_or_the_read_refused() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let mut grpc = Grpc::connect(server.address);
    // There are fewer events than this, so only the deadline can end the read.
    let terms = Some(Terms { min_seq: Some(1_000_000), max_staleness_ms: None });
    let mut request = Request::new(ScoreRequest { pairs: vec![pair_of(1, 2)], during: vec![], terms });
    request.set_timeout(Duration::from_millis(80));
    let begun = std::time::Instant::now();
    let status = grpc.reads(|mut reads| async move { reads.score(request).await }).unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut request = Request::new(ModelRequest {});
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = grpc.reads(|mut reads| async move { reads.model(request).await }).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}
