//! A stream of events over HTTP: one JSON object a line.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::{EVENTS, Running, SEEN, World, small};
use serde_json::{Value, json};
use tempograph_serving::{NewEvent, ServeSpec};

fn lines(events: &[NewEvent]) -> String {
    events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect()
}

#[test]
fn a_stream_leaves_the_state_of_requests_however_its_bytes_are_cut() {
    let mut world = World::new(&small(), 2);
    let text = lines(&world.new_events(SEEN..EVENTS));
    let servers: Vec<Running> = [(0, 1000), (7, 7), (1, 64)]
        .map(|(piece, batch)| {
            let server = Running::start(&world);
            let path = format!("/v1/events/stream?batch={batch}");
            let (status, sum) = match piece {
                0 => server.send("POST", &path, &text),
                piece => chunked(&server, &path, text.as_bytes(), piece),
            };
            assert_eq!(status, 200, "{sum}");
            let submitted = (EVENTS - SEEN) as u64;
            assert_eq!(
                (&sum["lines"], &sum["accepted"], &sum["log_seq"]),
                (&json!(submitted), &json!(submitted), &json!(EVENTS))
            );
            server
        })
        .into();
    world.observe_all(SEEN..EVENTS, 1);
    for server in servers {
        assert!(server.service.engine().history().to_store() == world.history.to_store());
    }
}

/// Sends `body` in chunks of `piece` bytes.
fn chunked(server: &Running, path: &str, body: &[u8], piece: usize) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    for chunk in body.chunks(piece) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&bytes).unwrap();
    let (status, answer) = crate::common::response(&mut stream);
    (status, serde_json::from_str(&answer).unwrap())
}

#[test]
fn a_line_that_will_not_do_is_named_and_what_came_before_its_batch_stands() {
    let world = World::new(&small(), 0);
    let good = lines(&world.new_events(SEEN..SEEN + 6));
    let t = world.history.newest().unwrap().0;
    let cases = [
        ("{\"src\": 1, \"dst\": 2}\n".to_string(), 400, "line 8: missing field `time`"),
        ("{\"src\": 1, \"dst\": 2, \"time\": \"x\"}\n".into(), 400, "line 8: time: invalid type: string \"x\""),
        ("no json\n".into(), 400, "line 8: expected ident"),
        (format!("{{\"src\": 1, \"dst\": 2, \"time\": {}}}\n", t - 1), 409, "line 8: time is"),
        (
            format!("{{\"src\": 1, \"dst\": 2, \"time\": {}, \"features\": [1]}}\n", t + 1000),
            422,
            "line 8: features has 1 values",
        ),
        (format!("{{\"id\": \"{}\"}}\n", "x".repeat(70_000)), 413, "line 8: is longer than 65536 bytes"),
    ];
    for (bad, status, says) in cases {
        let server = Running::start(&world);
        // An empty line is counted and otherwise ignored.
        let (found, answer) = server.send("POST", "/v1/events/stream?batch=4", &format!("\n{good}{bad}{good}"));
        assert_eq!(found, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().starts_with(says), "{answer}");
        assert_eq!((&answer["line"], &answer["accepted"]), (&json!(8), &json!(4)), "{answer}");
        assert_eq!(server.service.position().log_seq, SEEN as u64 + 4);
    }
}

#[test]
fn receipts_come_while_the_stream_goes_on() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = "POST /v1/events/stream?receipts=batch HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut submitted = String::new();
    for at in SEEN..SEEN + 3 {
        let line = lines(&world.new_events(at..at + 1));
        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).unwrap();
        // The next event is sent only after this one's receipt has arrived.
        let wanted = format!("\"first_seq\":{at}");
        while !submitted.contains(&wanted) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "{submitted}");
            submitted.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    stream.read_to_string(&mut submitted).unwrap();
    assert!(submitted.contains("\"lines\":3,\"accepted\":3"), "{submitted}");
}

#[test]
fn a_stream_that_pauses_is_not_held_back_and_one_that_stalls_is_ended() {
    let world = World::new(&small(), 0);
    let mut spec = ServeSpec::default();
    spec.limits.body_ms = 400;
    let server = Running::with(&world, &spec);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let line = lines(&world.new_events(SEEN..SEEN + 1));
    let head = "POST /v1/events/stream HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes()).unwrap();
    let begun = Instant::now();
    while server.service.position().log_seq == SEEN as u64 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the event waits for more");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, answer) = crate::common::response(&mut stream);
    assert_eq!(status, 408, "{answer}");
    assert!(answer.contains("nothing came for 400 ms") && answer.contains("\"accepted\":1"), "{answer}");
}

#[test]
fn a_stream_ends_when_the_server_stops() {
    let world = World::new(&small(), 0);
    let mut server = Running::start(&world);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let line = lines(&world.new_events(SEEN..SEEN + 1));
    let head = "POST /v1/events/stream HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes()).unwrap();
    server.get("/health/live");
    server.ask_to_stop();
    let (status, answer) = crate::common::response(&mut stream);
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("the server is stopping") && answer.contains("\"accepted\":1"), "{answer}");
    server.wait().unwrap();
}
