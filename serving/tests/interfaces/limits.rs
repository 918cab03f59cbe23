//! Limits on requests, connections and waiting times.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::service::{ScriptedLog, in_memory, with_ids, with_log};
use crate::common::{Running, SEEN, World, small};
use serde_json::json;
use tempograph_serving::ServeSpec;

fn server(world: &World, sets: &[&str]) -> Running {
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    Running::with(world, &ServeSpec::parse("", &sets).unwrap())
}

#[test]
fn lists_and_bodies_are_bounded_by_the_spec() {
    let world = World::new(&small(), 0);
    let server =
        server(&world, &["limits.events=3", "limits.pairs=2", "limits.candidates=1", "limits.body_bytes=2000"]);
    let pair = json!({ "src": 1, "dst": 2 });
    for (path, body, says) in [
        (
            "/v1/events",
            json!({ "events": world.new_events(SEEN..SEEN + 4) }),
            "events has 4 entries; one request may hold 3",
        ),
        ("/v1/retract", json!({ "ids": ["a", "b", "c", "d"] }), "ids has 4 entries; one request may hold 3"),
        ("/v1/score", json!({ "queries": [pair, pair, pair] }), "queries has 3 entries; one request may hold 2"),
        ("/v1/rank", json!({ "src": 1, "candidates": [1, 2] }), "candidates has 2 entries; one request may hold 1"),
        ("/v1/score", json!({ "queries": [], "x": "y".repeat(2000) }), "the body is larger than 2000 bytes"),
        ("/v1/events/stream?batch=4", json!({}), "batch has 4 entries"),
    ] {
        let (status, answer) = server.post(path, &body);
        assert_eq!((status, &answer["code"]), (413, &json!("too_large")), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(says), "{answer}");
    }
    // A body without a declared length is cut off while it is read.
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = "POST /v1/score HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}fa0\r\n{}\r\n0\r\n\r\n", " ".repeat(4000)).as_bytes()).unwrap();
    let (status, answer) = crate::common::response(&mut stream);
    assert_eq!(status, 413, "{answer}");
}

#[test]
fn nobody_waits_for_a_log_that_hangs_beyond_the_deadline() {
    let world = World::new(&small(), 0);
    world.engine();
    let log = Arc::new(ScriptedLog::default());
    let server = Running::of(with_log(&world.folder(), &in_memory(), log.clone()), &ServeSpec::default());
    let events = with_ids(world.new_events(SEEN..SEEN + 2));
    server.ingest(&events[..1], "event");
    log.hold(true);
    for (path, body) in
        [("/v1/events", json!({ "events": events[1..] })), ("/v1/retract", json!({ "ids": ["event-0"] }))]
    {
        let begun = Instant::now();
        let (status, answer) = server.send_with("POST", path, "Deadline-Ms: 80\r\n", body.to_string().as_bytes());
        assert!(status == 504 && answer.contains("the deadline has passed"), "{path}: {status} {answer}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}: {:?}", begun.elapsed());
    }
    log.hold(false);
    // Submitted changes are applied although the deadline has passed.
    assert_eq!(server.ingest(&world.new_events(SEEN + 2..SEEN + 3), "event")["first_seq"], SEEN + 2);
    assert_eq!(server.service.engine().stats().retracted, 1);
}

#[test]
fn slow_heads_and_bodies_are_not_waited_for() {
    let world = World::new(&small(), 0);
    let server = server(&world, &["limits.head_ms=300", "limits.body_ms=300"]);
    let begun = Instant::now();
    for start in ["", "P", "GET /health/live HTTP/1.1\r\nHost: te"] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(start.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = Vec::new();
        // The connection is closed, with or without an answer.
        stream.read_to_end(&mut answer).unwrap_or_default();
        assert!(begun.elapsed() < Duration::from_secs(10), "`{start}` keeps its connection");
    }
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .write_all(b"POST /v1/score HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 10\r\n\r\n{")
        .unwrap();
    let (status, answer) = crate::common::response(&mut stream);
    assert_eq!(status, 408, "{answer}");
    assert!(answer.contains("the body did not arrive within 300 ms"), "{answer}");
}

#[test]
fn more_connections_than_the_spec_allows_are_closed_at_once() {
    let world = World::new(&small(), 0);
    let server = server(&world, &["limits.connections=2"]);
    let open: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(100));
    let mut third = TcpStream::connect(server.address).unwrap();
    third.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(third.read(&mut [0; 10]).unwrap_or_default(), 0);
    drop(open);
    let begun = Instant::now();
    let answered = || {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let mut answer = String::new();
        let asked = stream
            .write_all(crate::common::request("GET", "/metrics", "").as_bytes())
            .and_then(|()| stream.read_to_string(&mut answer));
        asked.is_ok() && answer.contains("tempograph_connections_refused_total")
    };
    while !answered() {
        assert!(begun.elapsed() < Duration::from_secs(10), "places are not given back");
    }
}

#[test]
fn packed_bodies_and_headers_that_make_no_sense_are_refused() {
    let world = World::new(&small(), 0);
    let server = server(&world, &[]);
    let body = br#"{"queries":[{"src":1,"dst":2}]}"#;
    for (header, status, says) in [
        ("Content-Encoding: br\r\n", 415, "`br`"),
        ("Content-Encoding: gzip\r\n", 400, "the body is not what `content-encoding: gzip` says"),
        ("deadline-ms: soon\r\n", 400, "the header `deadline-ms` is not a whole number of milliseconds"),
        ("grpc-timeout: 5x\r\n", 400, "the header `grpc-timeout`"),
        ("Authorization: Basic abc\r\n", 401, "is not `Bearer TOKEN`"),
    ] {
        let (found, answer) = server.send_with("POST", "/v1/score", header, body);
        assert!(found == status && answer.contains(says), "{header}: {found} {answer}");
    }
}

#[test]
fn a_read_that_has_to_see_what_is_not_there_is_refused_by_its_deadline() {
    let world = World::new(&small(), 0);
    let server = server(&world, &[]);
    let begun = Instant::now();
    let body = json!({ "queries": [{ "src": 1, "dst": 2 }], "min_seq": 1_000_000 }).to_string();
    let (status, answer) = server.send_with("POST", "/v1/score", "deadline-ms: 100\r\n", body.as_bytes());
    assert_eq!(status, 504, "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let seen = json!({ "queries": [{ "src": 1, "dst": 2 }], "min_seq": SEEN, "max_staleness_ms": 1000 });
    assert_eq!(server.post("/v1/score", &seen).0, 200);
}

#[test]
fn a_stopping_server_is_not_ready_but_answers_while_it_lingers() {
    let world = World::new(&small(), 0);
    let mut server = server(&world, &["listen.linger_ms=1500"]);
    assert_eq!(server.get("/health/ready").0, 200);
    server.ask_to_stop();
    let begun = Instant::now();
    while server.get("/health/ready").0 == 200 {
        assert!(begun.elapsed() < Duration::from_secs(1), "it is ready still");
    }
    let (status, answer) = server.get("/health/ready");
    assert_eq!((status, &answer["status"]), (503, &json!("draining")), "{answer}");
    assert_eq!(server.get("/health/live").0, 200, "it is alive all the same");
    assert_eq!(server.get("/v2/health/ready"), (503, json!({ "ready": false })));
    assert_eq!(server.post("/v1/score", &json!({ "queries": [{ "src": 1, "dst": 2 }] })).0, 200);
    server.wait().unwrap();
    assert!(TcpStream::connect(server.address).is_err());
}
