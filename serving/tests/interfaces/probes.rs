//! Probes and metrics on an address of their own, and the bounds on connections.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::common::{Running, World, request, response, small};
use tempograph_serving::{Role, ServeSpec, TokenSpec};

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap()
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request("GET", path, "").as_bytes()).unwrap();
    response(&mut stream)
}

#[test]
fn connections_that_say_nothing_shut_nobody_out() {
    let world = World::new(&small(), 0);
    let sets = ["limits.connections=20", "limits.connections_per_address=20"].map(String::from);
    let server = Running::with(&world, &ServeSpec::parse("", &sets).unwrap());
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for _ in 0..6 {
        assert_eq!(get(server.address, "/health/live").0, 200);
    }
    let (_, metrics) = server.send_text("GET", "/metrics", "");
    let yielded = metrics.lines().find_map(|line| line.strip_prefix("tempograph_connections_yielded_total ")).unwrap();
    assert!(yielded.parse::<u64>().unwrap() >= 20, "{yielded}");
    drop(silent);
}

#[test]
fn probes_and_metrics_are_answered_on_their_own_address_when_the_other_has_no_room() {
    let world = World::new(&small(), 0);
    let mut spec = ServeSpec::parse("[limits]\nconnections = 4", &[]).unwrap();
    spec.listen.probes = Some(free());
    spec.auth.tokens = vec![TokenSpec {
        name: "dashboard".into(),
        roles: vec![Role::Read],
        sha256: Some("0".repeat(64)),
        ..TokenSpec::default()
    }];
    let server = Running::with(&world, &spec);
    // Each has begun a request, so none of them yields.
    let begun = |_| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n").unwrap();
        stream
    };
    let slow: Vec<TcpStream> = (0..4).map(begun).collect();
    let probes = spec.listen.probes.unwrap();
    // The server has read what they have begun.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut refused = false;
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let _ = stream.write_all(request("GET", "/health/live", "").as_bytes());
        refused = std::io::Read::read(&mut stream, &mut [0; 16]).unwrap_or(0) == 0;
        if refused {
            break;
        }
    }
    assert!(refused, "the listener for clients has room still");
    for path in ["/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"] {
        let (status, answer) = get(probes, path);
        assert_eq!(status, 200, "{path}: {answer}");
    }
    for path in ["/v1/model", "/v1/status", "/", "/admin/drain", "/openapi.json"] {
        assert_eq!(get(probes, path).0, 404, "{path}");
    }
    drop(slow);
}
