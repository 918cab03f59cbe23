//! The HTTP interface, as a client sees it.
mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{BATCH, EVENTS, Running, SEEN, World, assert_close, request, response, small};
use serde_json::{Value, json};
use tempograph_models::{TgnSpec, WalkSpec};
use tempograph_serving::{NewEvent, PairQuery, ServeSpec};

fn now(src: u64, dst: u64) -> PairQuery {
    PairQuery { src: src.into(), dst: dst.into(), time: None }
}

fn newest(world: &World) -> i64 {
    world.history.newest().map_or(0, |time| time.0)
}

#[test]
fn every_bad_request_is_answered_with_its_fault_and_changes_nothing() {
    let world = World::new(&small(), 2);
    let server = Running::start(&world);
    let t = newest(&world);
    let later = t + 5;
    let event =
        |fields: &str| format!(r#"{{"events":[{{"src":1,"dst":2,"time":{later},"features":[0,0]}},{fields}]}}"#);
    let ask = |fields: &str| format!(r#"{{"queries":[{{"src":1,"dst":2}},{fields}]}}"#);
    let cases: Vec<(&str, String, u16, &str)> = vec![
        ("/v1/events", "{".into(), 400, "EOF while parsing an object at line 1 column 1"),
        ("/v1/events", "{\"events\": [],\n \"x\": 1}".into(), 400, "unknown field `x`"),
        ("/v1/events", "{\"events\": []}]".into(), 400, "trailing characters at line 1 column 15"),
        ("/v1/events", "{}".into(), 400, "missing field `events`"),
        ("/v1/events", r#"{"events":[],"granularity":"hour"}"#.into(), 400, "unknown variant `hour`"),
        (
            "/v1/events",
            event(r#"{"src":-3,"dst":2,"time":1}"#),
            400,
            "events[1].src: invalid value: integer `-3`, expected an id",
        ),
        (
            "/v1/events",
            event(r#"{"src":"a","dst":2,"time":1}"#),
            422,
            "events[1].src is `a`, and the ids of this set are whole numbers",
        ),
        ("/v1/events", event(r#"{"src":1,"dst":2}"#), 400, "events[1]: missing field `time`"),
        ("/v1/events", event(r#"{"src":1,"dst":2,"time":NaN}"#), 400, "events[1].time: expected value at line 1"),
        (
            "/v1/events",
            event(&format!(r#"{{"src":1,"dst":2,"time":{later}}}"#)),
            422,
            "events[1].features is missing: this model reads 2",
        ),
        (
            "/v1/events",
            event(&format!(r#"{{"src":1,"dst":2,"time":{later},"features":[1]}}"#)),
            422,
            "events[1].features has 1 values where this model reads 2",
        ),
        (
            "/v1/events",
            event(&format!(r#"{{"src":1,"dst":2,"time":{later},"features":[1,1e39]}}"#)),
            400,
            "events[1].features[1]: number out of range",
        ),
        (
            "/v1/events",
            event(&format!(r#"{{"src":1,"dst":2,"time":{later}.5,"features":[1,1]}}"#)),
            422,
            "whole numbers",
        ),
        ("/v1/score", ask(r#"{"src":99,"dst":2}"#), 404, "queries[1].src: no source has the id 99"),
        ("/v1/score", ask(r#"{"src":1,"dst":77}"#), 404, "queries[1].dst: no destination has the id 77"),
        ("/v1/score", ask(r#"{"src":1,"dst":2,"tme":4}"#), 400, "queries[1].tme: unknown field `tme`"),
        ("/v1/score", ask(r#"{"src":1,"dst":2,"time":"x"}"#), 400, "queries[1].time: invalid type: string \"x\""),
        (
            "/v1/score",
            format!(r#"{{"queries":[],"during":[{{"src":99,"dst":1,"time":{later},"features":[0,0]}}]}}"#),
            404,
            "during[0].src: no source has the id 99",
        ),
        ("/v1/rank", r#"{"src":99}"#.into(), 404, "src: no source has the id 99"),
        ("/v1/rank", r#"{"src":1,"candidates":[2,50]}"#.into(), 404, "candidates[1]: no destination has the id 50"),
        ("/v1/rank", r#"{"src":1,"k":0}"#.into(), 422, "k is 0; it must be at least 1"),
        ("/v1/rank", r#"{"src":1,"candidates":[2,-1]}"#.into(), 400, "candidates[1]: invalid value: integer `-1`"),
        ("/v1/nothing", "{}".into(), 404, "there is no /v1/nothing"),
        ("/v1/model", "{}".into(), 405, "/v1/model does not take POST"),
    ];
    for (path, body, status, expected) in cases {
        let (found, answer) = server.send("POST", path, &body);
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{path} {body}: {answer}"));
        assert!(error.contains(expected), "{path} {body}: `{error}` does not say `{expected}`");
        assert_eq!(found, status, "{path} {body}: {error}");
        assert!(answer["code"].is_string(), "{path} {body}: {answer}");
    }
    assert!(server.service.engine().history().to_store() == world.history.to_store());
}

#[test]
fn bad_embedding_queries_are_answered_with_their_fault() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    for (query, status, expected) in [
        ("", 400, "missing field `node`"),
        ("?node=-1&side=source", 404, "node: no source has the id `-1`"),
        ("?node=1", 422, "side is missing: say `source` or `destination`"),
        ("?node=1&side=left", 422, "side is `left`; it is `source` or `destination`"),
        ("?node=1&side=source&time=soon", 422, "time is `soon`, which is not a number"),
        ("?node=1&side=source&time=0", 409, "time is 0, which is before"),
        ("?node=15&side=destination", 404, "node: no destination has the id 15"),
        ("?node=1&sides=source", 400, "unknown field `sides`"),
    ] {
        let (found, answer) = server.get(&format!("/v1/embedding{query}"));
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{query}: {answer}"));
        assert!(found == status && error.contains(expected), "{query}: {found} `{error}` does not say `{expected}`");
    }
}

#[test]
fn features_a_model_does_not_read_are_refused() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let event = json!({ "src": 1, "dst": 2, "time": newest(&world), "features": [0.5] });
    let (status, answer) = server.post("/v1/events", &json!({ "events": [event] }));
    assert_eq!((status, &answer["error"]), (422, &json!("events[0].features has 1 values where this model reads 0")));
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let mut stream = TcpStream::connect(server.address).unwrap();
    write!(
        stream,
        "POST /v1/events HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        (16 << 20) + 1
    )
    .unwrap();
    let (status, text) = response(&mut stream);
    assert_eq!(status, 413);
    assert!(text.contains("the body is larger than 16777216 bytes"), "{text}");

    let queries = vec![now(1, 2); 50_001];
    let (status, answer) = server.post("/v1/score", &json!({ "queries": queries }));
    assert_eq!((status, &answer["error"]), (413, &json!("queries has 50001 entries; one request may hold 50000")));
}

#[test]
fn a_late_event_is_refused_with_both_times_and_its_request_with_it() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let t = newest(&world);
    let event = |time: i64| json!({ "src": 1, "dst": 2, "time": time });
    for (times, late, newest) in [(vec![t - 1], 0, t), (vec![t, t + 9, t + 4], 2, t + 9)] {
        let events: Vec<Value> = times.iter().map(|&time| event(time)).collect();
        let (status, answer) = server.post("/v1/events", &json!({ "events": events }));
        let expected =
            format!("events[{late}].time is {}, which is before {newest}, the newest time so far", times[late]);
        assert_eq!((status, &answer), (409, &json!({ "error": expected, "code": "late" })));
    }
    let (status, answer) = server.post("/v1/score", &json!({ "queries": [{ "src": 1, "dst": 2, "time": t - 1 }] }));
    assert_eq!(
        (status, &answer["error"]),
        (409, &json!(format!("queries[0].time is {}, which is before {t}, the newest time so far", t - 1)))
    );
    assert!(server.service.engine().history().to_store() == world.history.to_store());
    let (_, metrics) = server.send_text("GET", "/metrics", "");
    // Reads at an earlier time are not counted as late events.
    assert!(metrics.contains("tempograph_late_requests_total 2"), "{metrics}");
}

#[test]
fn a_time_left_out_is_just_after_the_newest_event() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let at = |time: i64| PairQuery { time: Some(time.into()), ..now(1, 2) };
    let t = newest(&world);
    assert_eq!(server.scores(&[now(1, 2)], &[]), server.scores(&[at(t + 1)], &[]));
    let shown = NewEvent { src: 1.into(), dst: 2.into(), time: (t + 50).into(), label: 0.0, features: None, id: None };
    assert_eq!(server.scores(&[now(1, 2)], std::slice::from_ref(&shown)), server.scores(&[at(t + 51)], &[shown]));
}

#[test]
fn a_new_node_appears_with_its_first_event() {
    let world = World::new(&small(), 2);
    let server = Running::start(&world);
    let before = server.service.engine().history().nodes();
    // 500 is new on both sides, which makes two nodes; it is unknown before.
    assert_eq!(server.post("/v1/score", &json!({ "queries": [now(500, 500)] })).0, 404);
    let event = NewEvent {
        src: 500.into(),
        dst: 500.into(),
        time: newest(&world).into(),
        label: 0.0,
        features: Some(vec![0.5, -0.5]),
        id: None,
    };
    let answer = server.ingest(&[event], "event");
    assert_eq!((&answer["accepted"], &answer["log_seq"]), (&json!(1), &json!(SEEN + 1)));
    assert_eq!(server.service.engine().history().nodes(), before + 2);
    assert!(server.scores(&[now(500, 500)], &[])[0].is_finite());
    let (_, ranked) = server.post("/v1/rank", &json!({ "src": 1, "k": 1000 }));
    assert!(ranked["ranked"].as_array().unwrap().iter().any(|entry| entry["dst"] == 500), "{ranked}");
}

#[test]
fn a_ranking_is_the_scores_in_order() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let candidates: Vec<u64> = (0..12).collect();
    let scores = server.scores(&candidates.iter().map(|&dst| now(3, dst)).collect::<Vec<_>>(), &[]);
    let (status, answer) = server.post("/v1/rank", &json!({ "src": 3, "candidates": candidates, "k": 5 }));
    assert_eq!(status, 200, "{answer}");
    let submitted: Vec<(u64, f32)> = answer["ranked"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["dst"].as_u64().unwrap(), e["score"].as_f64().unwrap() as f32))
        .collect();
    let mut expected: Vec<(u64, f32)> = candidates.iter().copied().zip(scores).collect();
    expected.sort_by(|a, b| b.1.total_cmp(&a.1));
    assert_eq!(
        submitted.iter().map(|e| e.0).collect::<Vec<_>>(),
        expected[..5].iter().map(|e| e.0).collect::<Vec<_>>()
    );
    assert_close(
        &submitted.iter().map(|e| e.1).collect::<Vec<_>>(),
        &expected[..5].iter().map(|e| e.1).collect::<Vec<_>>(),
        "ranked",
    );

    let (_, all) = server.post("/v1/rank", &json!({ "src": 3, "k": 1000 }));
    let seen: std::collections::HashSet<_> = world.set.log.dst()[..SEEN].iter().collect();
    assert_eq!(all["ranked"].as_array().unwrap().len(), seen.len());
    assert_eq!(server.post("/v1/rank", &json!({ "src": 3 })).1["ranked"].as_array().unwrap().len(), 10.min(seen.len()));
}

#[test]
fn an_embedding_changes_with_its_nodes_events() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let embedding = || server.get("/v1/embedding?node=3&side=source").1["embedding"].clone();
    let before = embedding();
    assert_eq!(before.as_array().unwrap().len(), 8);
    assert_eq!(before, embedding());
    server.ingest(&world.new_events(SEEN..EVENTS), "event");
    assert_ne!(before, embedding());
}

#[test]
fn answers_say_what_they_have_seen_and_by_which_weights() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    server.ingest(&world.new_events(SEEN..SEEN + BATCH), "batch");
    let (status, answer) = server.get("/v1/model");
    let version = world.history.version() + 1;
    assert_eq!((status, &answer["log_seq"], &answer["version"]), (200, &json!(SEEN + BATCH), &json!(version)));
    assert_eq!(answer["manifest"]["batch"], BATCH);
    let sha256 = answer["manifest"]["files"]["weights.safetensors"]["sha256"].as_str().unwrap();
    assert_eq!(answer["model"], format!("tgn-{}", &sha256[..12]));
    let (_, scored) = server.post("/v1/score", &json!({ "queries": [now(1, 2)] }));
    assert_eq!(
        (&scored["log_seq"], &scored["version"], &scored["model"]),
        (&answer["log_seq"], &answer["version"], &answer["model"])
    );
    let (logit, probability) = (scored["scores"][0].as_f64().unwrap(), scored["probabilities"][0].as_f64().unwrap());
    assert!((probability - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-6);
}

#[test]
fn health_and_metrics_tell_what_happened() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    assert_eq!((server.get("/health/live").0, server.get("/health/ready").0), (200, 200));
    server.ingest(&world.new_events(SEEN..SEEN + 7), "event");
    server.scores(&[now(1, 2)], &[]);
    server.get("/nowhere/at/all");
    let (status, text) = server.send_text("GET", "/metrics", "");
    assert_eq!(status, 200);
    for line in [
        "tempograph_events_total 7".to_string(),
        format!("tempograph_log_seq {}", SEEN + 7),
        format!("tempograph_nodes {}", world.set.nodes),
        format!("tempograph_version {}", world.history.version() + 7),
        format!("tempograph_model{{version=\"{}\"}} 1", server.service.engine().manifest().model_version()),
        // Both ends had to be computed.
        "tempograph_embeddings_asked_total 2".into(),
        "tempograph_touched_fraction 1".into(),
        "tempograph_hit_rate 0".into(),
        "tempograph_lag_events 0".into(),
        "tempograph_late_requests_total 0".into(),
        "tempograph_retracted_total 0".into(),
        "tempograph_expired_total 0".into(),
        r#"tempograph_ack_seconds_count{ack="applied"} 1"#.into(),
        r#"tempograph_staleness_seconds_count{of="answer"} 1"#.into(),
        r#"tempograph_requests_total{route="/v1/score",code="200"} 1"#.into(),
        r#"tempograph_requests_total{route="other",code="404"} 1"#.into(),
        r#"tempograph_request_seconds_count{route="/v1/events"} 1"#.into(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn readers_are_answered_while_events_arrive() {
    let world = World::new(&small(), 2);
    let server = Running::start(&world);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (server, done) = (&server, &done);
            scope.spawn(move || {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let (status, answer) =
                        server.post("/v1/score", &json!({ "queries": [now(reader, 1), now(reader, 2)] }));
                    assert_eq!(status, 200, "{answer}");
                    let log_seq = answer["log_seq"].as_u64().unwrap();
                    assert!(log_seq >= seen, "{log_seq} after {seen}");
                    seen = log_seq;
                }
            });
        }
        common::batches(3).for_each(|range| drop(server.ingest(&world.new_events(range), "event")));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.service.engine().position().log_seq, EVENTS as u64);
}

#[test]
fn a_request_in_flight_is_finished_before_the_server_stops() {
    let world = World::new(&small(), 0);
    let mut server = Running::start(&world);
    let body = json!({ "events": world.new_events(SEEN..EVENTS) }).to_string();
    let text = request("POST", "/v1/events", &body);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let (first, rest) = text.split_at(text.len() - 100);
    stream.write_all(first.as_bytes()).unwrap();
    // When a request on a later connection is answered, the server has read the head of the first.
    server.get("/health/live");
    server.ask_to_stop();
    std::thread::sleep(Duration::from_millis(100));
    stream.write_all(rest.as_bytes()).unwrap();
    let (status, answer) = response(&mut stream);
    assert_eq!(status, 200, "{answer}");
    let start = Instant::now();
    server.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "an idle server stops at once");
    assert_eq!(server.service.engine().position().log_seq, EVENTS as u64);
    assert!(TcpStream::connect(server.address).is_err(), "it no longer listens");
}

#[test]
fn an_address_in_use_is_named() {
    let world = World::new(&small(), 0);
    world.engine();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let spec = ServeSpec::parse("", &[format!("listen.http={address}")]).unwrap();
    let error = tempograph_serving::serve(&world.folder(), &spec).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: Address already in use")), "{error}");
}

#[test]
fn a_retraction_says_in_which_parts_of_the_state_events_remain() {
    let walks = WalkSpec { layers: 2, width: 6, ..WalkSpec::default() };
    for (spec, remains) in
        [(small(), json!(["memory"])), (TgnSpec { walks: Some(walks), ..small() }, json!(["memory", "walks"]))]
    {
        let world = World::new(&spec, 0);
        let server = Running::start(&world);
        let event = NewEvent { id: Some("event-0".into()), ..world.new_events(SEEN..SEEN + 1).remove(0) };
        server.ingest(&[event], "event");
        let (status, answer) = server.post("/v1/retract", &json!({ "ids": ["event-0"] }));
        assert_eq!((status, &answer["retracted"], &answer["remains"]), (200, &json!(1), &remains), "{answer}");
    }
}
