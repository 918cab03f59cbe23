//! The answers of a server before it can be queried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempograph_serving::{Entry, Granularity, Log, Mutation, PairQuery, ServeSpec, Service};
use tokio::sync::oneshot;

use crate::common::service::{ScriptedLog, in_memory, open, soon};
use crate::common::{EVENTS, Running, SEEN, World, small};

/// A log that is replayed entry by entry, and only as far as it allows.
fn held(world: &World) -> ScriptedLog {
    let log = ScriptedLog::default();
    for event in SEEN..EVENTS {
        let mutation = Mutation::Events {
            events: world.new_events(event..event + 1),
            granularity: Granularity::Event,
            late: Vec::new(),
        };
        log.append(&[Entry { first_seq: event as u64, mutation }]).unwrap();
    }
    log.allow(0);
    log
}

/// Requests every route of the document. Routes that need the opened service are refused with a time to try again; the
/// others answer. `numbers` says whether status and metrics answer already.
fn only_health_is_answered(server: &Running, numbers: bool) {
    let (status, document) = server.get("/openapi.json");
    assert_eq!(status, 200);
    let version = server.service.engine().manifest().model_version();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{model}", "score").replace("{version}", &version);
        for (method, operation) in item.as_object().unwrap() {
            let (head, body) = server.send_bytes(&method.to_uppercase(), &path, "", b"");
            let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
            let wanted = match operation["x-role"].as_str() {
                Some("admin") => 401,
                _ if numbers && matches!(path.as_str(), "/metrics" | "/v1/status") => 200,
                None if !path.ends_with("/ready") => 200,
                _ => 503,
            };
            assert_eq!(status, wanted, "{method} {path}: {}", String::from_utf8_lossy(&body));
            assert!(
                operation["responses"][status.to_string()].is_object(),
                "{method} {path}: the document does not know {status}"
            );
            // The Open Inference Protocol has its own form for a server that is not ready.
            if wanted == 503 && !path.starts_with("/v2") {
                let refused: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(refused["code"], "unavailable", "{path}: {refused}");
                assert!(refused["retry_after_ms"].as_u64().is_some_and(|after| after > 0), "{path}: {refused}");
                assert!(head.to_lowercase().contains("retry-after:"), "{path}: {head}");
            }
        }
    }
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = soon();
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_server_that_replays_its_log_says_how_far_it_is_and_takes_nothing_until_it_has_caught_up() {
    let world = World::new(&small(), 0);
    world.engine();
    let log = Arc::new(held(&world));
    let service = Service::with_log(&world.folder(), &in_memory(), log.clone()).unwrap();
    let server = Running::of(service, &ServeSpec::default());
    for replayed in [5, 9] {
        log.allow(replayed);
        until("it replays what it is allowed to", || {
            server.get("/health/ready").1["applied"] == SEEN as u64 + replayed
        });
        let (status, submitted) = server.get("/health/ready");
        assert_eq!(
            (status, &submitted["status"], &submitted["of"]),
            (503, &"recovering".into(), &(EVENTS as u64).into()),
            "{submitted}"
        );
        only_health_is_answered(&server, true);
    }
    log.allow(u64::MAX);
    until("it is ready once all is replayed", || server.get("/health/ready").0 == 200);
    let asked = PairQuery { time: None, ..world.queries(0..1)[0].clone() };
    assert_eq!(server.scores(&[asked], &[]).len(), 1);
}

#[test]
fn a_server_listens_while_what_it_serves_is_being_opened() {
    let world = World::new(&small(), 0);
    world.engine();
    let (opened, opening) = oneshot::channel();
    let service = open(&world.folder(), &in_memory());
    let server = Running::once_open(service.clone(), async { opening.await.unwrap() }, &ServeSpec::default());
    only_health_is_answered(&server, false);
    assert_eq!(server.get("/health/ready").1["status"], "opening");
    opened.send(Ok(service)).unwrap();
    until("it is ready once it is open", || server.get("/health/ready").0 == 200);
}

#[test]
fn a_server_can_be_stopped_while_it_opens_and_says_why_it_cannot_open() {
    let world = World::new(&small(), 0);
    world.engine();
    let service = open(&world.folder(), &in_memory());
    let mut server = Running::once_open(service.clone(), std::future::pending(), &ServeSpec::default());
    assert_eq!(server.get("/health/live").0, 200);
    server.ask_to_stop();
    server.wait().unwrap();
    let missing = Service::open(&world.folder().join("missing"), &in_memory());
    let mut server = Running::once_open(service, std::future::ready(missing), &ServeSpec::default());
    let error = server.wait().unwrap_err().to_string();
    assert!(error.contains("missing"), "{error}");
}
