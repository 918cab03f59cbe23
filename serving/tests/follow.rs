//! Several servers replay one log: one writes, the others follow, and any of them can be promoted.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::service::{ingest, saved, soon, with_ids, with_log, without_snapshots};
use common::{EVENTS, Running, SEEN, World, small};
use serde_json::json;
use tempograph_serving::{
    Export, Granularity, LogKind, LogSpec, MemoryLog, Readiness, Retraction, ServeSpec, Service, ServiceSpec,
};

/// A follower of a log that stands for a topic, started from its own artifact.
fn follower(world: &World, name: &str, log: &Arc<MemoryLog>) -> Arc<Service> {
    let artifact = copy(world, name);
    let spec = ServiceSpec {
        log: LogSpec { kind: LogKind::Kafka, follow: true, ..LogSpec::default() },
        ..without_snapshots()
    };
    let service = Service::with_log(&artifact, &spec, log.clone()).unwrap();
    assert_eq!(service.wait_until_ready(soon()), Readiness::Following);
    service
}

fn copy(world: &World, name: &str) -> PathBuf {
    let artifact = world.folder().with_file_name(name);
    Export { replace: true, ..world.export() }.write(&artifact).unwrap();
    artifact
}

#[test]
fn a_follower_has_the_writers_state_and_continues_where_it_ended() {
    let world = World::new(&small(), 2);
    let engine = world.engine();
    let log = Arc::new(MemoryLog::default());
    let leader = with_log(&world.folder(), &without_snapshots(), log.clone());
    let events = with_ids(world.new_events(SEEN..EVENTS));
    ingest(&leader, &events[..20]).unwrap();
    // One follower starts early, the other later.
    let early = follower(&world, "early", &log);
    ingest(&leader, &events[20..40]).unwrap();
    leader.retract(&["event-3".into(), "event-30".into()]).unwrap();
    let late = follower(&world, "late", &log);
    ingest(&leader, &events[40..60]).unwrap();
    for follower in [&early, &late] {
        follower.wait_for(SEEN as u64 + 60, soon()).unwrap();
        assert_eq!(saved(&follower.engine()), saved(&leader.engine()));
        let refused = ingest(follower, &events[60..61]).unwrap_err().to_string();
        assert_eq!(refused, "no events are taken: the server is following a log that another server writes");
        assert!(
            follower.retract(&["event-5".into()]).is_err() && follower.snapshot().unwrap().log_seq == SEEN as u64 + 60
        );
    }
    let unfit = leader.promote(soon()).unwrap_err().to_string();
    assert_eq!(unfit, "there is nobody to take over from: the server is ready");
    // The last events are in the log when the leader is gone; the followers may not have applied them.
    ingest(&leader, &events[60..80]).unwrap();
    drop(leader);
    assert_eq!(early.promote(soon()).unwrap().log_seq, SEEN as u64 + 80);
    let receipt = ingest(&early, &events[70..100]).unwrap();
    assert_eq!(
        (receipt.first_seq, receipt.accepted, receipt.duplicates),
        (SEEN as u64 + 80, 20, 10),
        "the ids are known"
    );
    ingest(&early, &events[100..]).unwrap();
    late.wait_for(EVENTS as u64, soon()).unwrap();
    engine.observe(&events[..40], Granularity::Event).unwrap();
    let taken = [3, 30].map(|i: usize| Retraction {
        seq: (SEEN + i) as u64,
        src: events[i].src.clone(),
        dst: events[i].dst.clone(),
    });
    engine.retract(&taken).unwrap();
    engine.observe(&events[40..], Granularity::Event).unwrap();
    for follower in [&early, &late] {
        assert_eq!(saved(&follower.engine()), saved(&engine));
    }
    // A follower restarts from the snapshot that it wrote while it followed.
    drop(late);
    let again = Service::with_log(
        &world.folder().with_file_name("late"),
        &ServiceSpec { log: LogSpec { kind: LogKind::Kafka, ..LogSpec::default() }, ..without_snapshots() },
        log,
    );
    let again = again.unwrap();
    assert_eq!(
        (again.wait_until_ready(soon()), again.status().replayed),
        (Readiness::Ready, EVENTS as u64 - SEEN as u64 - 60)
    );
    assert_eq!(saved(&again.engine()), saved(&engine));
}

#[test]
fn a_server_that_follows_answers_and_says_so_and_promises_no_age() {
    let world = World::new(&small(), 0);
    world.engine();
    let log = Arc::new(MemoryLog::default());
    let leader = with_log(&world.folder(), &without_snapshots(), log.clone());
    let mut spec = ServeSpec::default();
    spec.auth.tokens = vec![common::service::chief()];
    let server = Running::of(follower(&world, "replica", &log), &spec);
    let ask = |method: &str, path: &str, body: &serde_json::Value| {
        let (status, text) =
            server.send_with(method, path, "Authorization: Bearer chief\r\n", body.to_string().as_bytes());
        (status, serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    assert_eq!(ask("GET", "/health/ready", &json!({})), (200, json!({ "status": "following" })));
    ingest(&leader, &world.new_events(SEEN..SEEN + 5)).unwrap();
    let query = json!({ "queries": [{ "src": 1, "dst": 2 }], "min_seq": SEEN + 5 });
    let (status, scored) = ask("POST", "/v1/score", &query);
    assert_eq!((status, &scored["log_seq"]), (200, &json!(SEEN + 5)), "{scored}");
    let (status, refused) =
        ask("POST", "/v1/score", &json!({ "queries": [{ "src": 1, "dst": 2 }], "max_staleness_ms": 1000 }));
    assert!(status == 504 && refused["code"] == "stale", "{status} {refused}");
    let event = json!({ "events": world.new_events(SEEN + 5..SEEN + 6) });
    let (status, refused) = ask("POST", "/v1/events", &event);
    assert!(status == 503 && refused["error"].as_str().unwrap().contains("following"), "{status} {refused}");
    drop(leader);
    assert_eq!(ask("POST", "/admin/promote", &json!({})), (200, json!({ "log_seq": SEEN + 5 })));
    assert_eq!(ask("GET", "/health/ready", &json!({})), (200, json!({ "status": "ready" })));
    assert_eq!(ask("POST", "/v1/events", &event).1["first_seq"], SEEN + 5);
    assert_eq!(ask("POST", "/admin/promote", &json!({})).0, 409);
}

#[test]
fn only_a_topic_can_be_followed() {
    let world = World::new(&small(), 0);
    world.engine();
    let spec = ServiceSpec { log: LogSpec { follow: true, ..LogSpec::default() }, ..without_snapshots() };
    let error = Service::with_log(&world.folder(), &spec, Arc::new(MemoryLog::default())).unwrap_err().to_string();
    assert_eq!(error, "log.follow is true; only a topic is written by another server: log.kind = \"kafka\"");
}
