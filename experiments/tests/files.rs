//! A server with few open files: connections never take those that the log of record and snapshots need.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Server, train_small};

/// Events of a request.
const EVENTS: u64 = 40;
/// Silent connections: more than the files of the server would bear.
const SILENT: usize = 300;

/// The program under a limit of open files.
fn limited(folder: &Path, limit: &str) -> PathBuf {
    let program = folder.join("limited.sh");
    let script = format!("#!/bin/sh\nulimit {limit}\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_tempograph"));
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// A server that writes a snapshot after every request of events, and bears many connections of one address.
fn start(folder: &Path, limit: &str) -> Server {
    let options = [
        "--set",
        "snapshots.every_events=40",
        "--set",
        "limits.connections_per_address=1000",
        "--set",
        "limits.head_ms=60000",
    ];
    Server::of_program(&limited(folder, limit), folder, train_small(folder), &options, Stdio::null())
}

fn text(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Value {
    serde_json::from_str(&answer.unwrap().body_mut().read_to_string().unwrap()).unwrap()
}

/// Submits events with one connection that stays open.
fn submit(agent: &ureq::Agent, server: &Server, first: u64) -> Value {
    let event = |i: u64| json!({ "src": 1, "dst": 2 + i % 3, "time": 1_000_000 + first + i });
    let events: Vec<Value> = (0..EVENTS).map(event).collect();
    let body = json!({ "events": events, "ack": "applied" }).to_string();
    text(agent.post(format!("{}/v1/events", server.url)).content_type("application/json").send(body))
}

fn connect(server: &Server) -> Vec<TcpStream> {
    let address = server.url.strip_prefix("http://").unwrap();
    (0..SILENT)
        .map_while(|_| TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5)).ok())
        .collect()
}

/// Connections that the server has not closed.
fn open(connections: &[TcpStream]) -> usize {
    let is_open = |connection: &&TcpStream| {
        connection.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut connection = *connection;
        connection
            .read(&mut [0; 1])
            .is_err_and(|error| [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut].contains(&error.kind()))
    };
    connections.iter().filter(is_open).count()
}

fn works_beside_silent_connections(server: &Server) -> Vec<TcpStream> {
    let agent = ureq::Agent::new_with_defaults();
    assert_eq!(submit(&agent, server, 0)["accepted"], EVENTS);
    let silent = connect(server);
    for round in 1..6 {
        assert_eq!(submit(&agent, server, round * EVENTS)["accepted"], EVENTS);
    }
    let status = text(agent.get(format!("{}/v1/status", server.url)).call());
    assert_eq!(status["log_failures"], 0, "{status}");
    assert_eq!(status["snapshots"]["failures"], 0, "{status}");
    assert!(status["snapshots"]["last"]["log_seq"].as_u64().is_some(), "{status}");
    silent
}

#[test]
fn a_soft_limit_of_open_files_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "-Sn 256");
    let silent = works_beside_silent_connections(&server);
    assert_eq!(open(&silent), SILENT, "no connection was closed for want of files");
}

#[test]
fn with_a_hard_limit_of_open_files_connections_are_closed_and_the_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "-n 256");
    let silent = works_beside_silent_connections(&server);
    let open = open(&silent);
    assert!((100..=128).contains(&open), "{open} of {SILENT} are open: 128 files are kept for the log");
}
