//! What a page of another origin can make a browser send to this server.

use crate::common::{Running, SEEN, World, small};
use serde_json::{Value, json};
use tempograph_serving::ServeSpec;

fn server(world: &World, text: &str) -> Running {
    Running::with(world, &ServeSpec::parse(text, &[]).unwrap())
}

fn event(world: &World, at: usize) -> String {
    json!({ "events": world.new_events(SEEN + at..SEEN + at + 1) }).to_string()
}

fn code(answer: &str) -> String {
    serde_json::from_str::<Value>(answer).unwrap()["code"].as_str().unwrap().into()
}

#[test]
fn a_body_that_a_browser_sends_without_a_preflight_is_refused_and_changes_nothing() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let seen = server.get("/v1/status").1["applied"]["log_seq"].clone();
    let (event, line) = (event(&world, 0), serde_json::to_string(&world.new_events(SEEN..SEEN + 1)[0]).unwrap());
    for (path, body) in [
        ("/v1/events", event.as_str()),
        ("/v1/events/stream", line.as_str()),
        ("/v1/retract", r#"{"ids":["a"]}"#),
        ("/v1/score", r#"{"queries":[{"src":1,"dst":2}]}"#),
        ("/v2/models/score/infer", r#"{"inputs":[]}"#),
    ] {
        for kind in [
            "text/plain",
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
            "application/jsonp",
        ] {
            let (status, answer) =
                server.send_with("POST", path, &format!("Content-Type: {kind}\r\n"), body.as_bytes());
            assert_eq!((status, code(&answer).as_str()), (415, "wrong_media"), "{path} {kind}: {answer}");
            assert!(answer.contains("content-type: application/"), "{answer}");
        }
    }
    // A script can also send a body without a type.
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        event.len()
    );
    let (status, answer) = server.send_raw(&(head + &event));
    assert_eq!((status, code(&answer).as_str()), (415, "wrong_media"), "{answer}");
    assert_eq!(server.get("/v1/status").1["applied"]["log_seq"], seen);
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        let (status, answer) = server.send_with(
            "POST",
            "/v1/score",
            &format!("Content-Type: {kind}\r\n"),
            br#"{"queries":[{"src":1,"dst":2}]}"#,
        );
        assert_eq!(status, 200, "{answer}");
    }
    let (status, answer) =
        server.send_with("POST", "/v1/events/stream", "Content-Type: application/x-ndjson\r\n", line.as_bytes());
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_name_of_elsewhere_that_leads_here_is_not_answered() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let ask = |version: &str, head: &str| {
        server.send_raw(&format!("GET /v1/model HTTP/{version}\r\n{head}Connection: close\r\n\r\n"))
    };
    for head in [
        "Host: rebind.evil.example\r\n",
        "Host: rebind.evil.example:8080\r\n",
        "Host: evil.example\r\nOrigin: http://evil.example\r\n",
    ] {
        let (status, answer) = ask("1.1", head);
        assert_eq!((status, code(&answer).as_str()), (403, "wrong_host"), "{head}: {answer}");
        assert!(answer.contains("evil.example") && answer.contains("web.hosts"), "{answer}");
    }
    for head in [format!("Host: {}\r\n", server.address), "Host: localhost\r\n".into(), "Host: [::1]:80\r\n".into()] {
        assert_eq!(ask("1.1", &head).0, 200, "{head}");
    }
    // A gRPC method is no way around it.
    let grpc = "POST /tempograph.v1.Reads/Model HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/grpc\r\nTE: trailers\r\nConnection: close\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0";
    let (head, _) = server.raw_answer(grpc.as_bytes());
    assert!(head.to_lowercase().contains("grpc-status: 7"), "{head}");
    let named = self::server(&world, "[web]\nhosts = [\"api.example.com\"]");
    assert_eq!(
        named.send_raw("GET /health/live HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n").0,
        200
    );
    assert_eq!(named.send_raw("GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").0, 403);
    let probe = format!("GET /health/live HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", named.address);
    assert_eq!(named.send_raw(&probe).0, 200, "a probe knows the address alone");
}

#[test]
fn a_page_of_another_origin_can_neither_send_nor_read() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let seen = server.get("/v1/status").1["applied"]["log_seq"].clone();
    for origin in ["http://evil.example", "null", "http://localhost:3000"] {
        for (method, path, body) in [("POST", "/v1/events", event(&world, 0)), ("GET", "/v1/model", String::new())] {
            let (head, body) = server.send_bytes(method, path, &format!("Origin: {origin}\r\n"), body.as_bytes());
            let answer = String::from_utf8(body).unwrap();
            assert!(head.starts_with("HTTP/1.1 403") && code(&answer) == "wrong_origin", "{origin}: {head} {answer}");
            assert!(!head.to_lowercase().contains("access-control-allow"), "{head}");
        }
        let asked = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
        let (head, _) = server.send_bytes("OPTIONS", "/v1/events", &asked, b"");
        assert!(head.starts_with("HTTP/1.1 403") && !head.to_lowercase().contains("access-control"), "{head}");
    }
    assert_eq!(server.get("/v1/status").1["applied"]["log_seq"], seen);
    // Its own page has the server's own address as its origin.
    let own = format!(
        "GET /v1/model HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\nConnection: close\r\n\r\n",
        server.address
    );
    assert_eq!(server.send_raw(&own).0, 200);
}

#[test]
fn a_page_of_a_named_origin_can_send_and_read() {
    let world = World::new(&small(), 0);
    let server = server(&world, "[web]\norigins = [\"https://ops.example.com\"]");
    let origin = "Origin: https://ops.example.com\r\n";
    let asked =
        format!("{origin}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n");
    let (head, _) = server.send_bytes("OPTIONS", "/v1/events", &asked, b"");
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 204"), "{head}");
    for line in [
        "access-control-allow-origin: https://ops.example.com",
        "access-control-allow-methods: get, post",
        "content-type",
        "vary: origin",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let (head, _) = server.send_bytes("POST", "/v1/events", origin, event(&world, 0).as_bytes());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("access-control-allow-origin: https://ops.example.com"), "{head}");
    let (head, _) =
        server.send_bytes("POST", "/v1/events", "Origin: https://evil.example\r\n", event(&world, 1).as_bytes());
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}
