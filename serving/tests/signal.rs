//! A server stops at a signal, or when its artifact cannot be brought up to its log.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{SEEN, World, request, response, small};
use tempograph_serving::{EmbeddedLog, Entry, Granularity, Log, LogSpec, Mutation, ServeSpec};

/// The answer, once the server listens.
fn ask(address: SocketAddr) -> String {
    for _ in 0..200 {
        if let Ok(mut stream) = TcpStream::connect(address)
            && stream.write_all(request("GET", "/health/ready", "").as_bytes()).is_ok()
            && let (200, answer) = response(&mut stream)
        {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody answers on {address}")
}

/// One server at a time, because a signal reaches the whole process.
static TURN: Mutex<()> = Mutex::new(());

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

#[test]
fn a_served_artifact_stops_at_sigterm() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::new(&small(), 0);
    world.engine();
    let (address, folder) = (free(), world.folder());
    let spec = ServeSpec::parse("", &[format!("listen.http={address}")]).unwrap();
    let served = std::thread::spawn(move || tempograph_serving::serve(&folder, &spec));
    assert!(ask(address).contains("ready"));
    let sent = Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status().unwrap();
    assert!(sent.success());
    served.join().unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_server_whose_log_cannot_be_replayed_ends_and_says_why() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::new(&small(), 0);
    world.engine();
    let mut events = world.new_events(SEEN..SEEN + 1);
    events[0].features = Some(vec![0.0; 1000]);
    let mutation = Mutation::Events { events, granularity: Granularity::Event, late: Vec::new() };
    let log = EmbeddedLog::open(&LogSpec::default().dir(&world.folder())).unwrap();
    log.append(&[Entry { first_seq: SEEN as u64, mutation }]).unwrap();
    drop(log);
    let spec = ServeSpec::parse("", &[format!("listen.http={}", free())]).unwrap();
    let error = tempograph_serving::serve(&world.folder(), &spec).unwrap_err().to_string();
    assert!(error.contains("1000"), "{error}");
}

fn raise(signal: &str) {
    let sent = Command::new("kill").args([signal, &std::process::id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn status_of(address: SocketAddr, token: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "GET /v1/model HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    response(&mut stream).0
}

fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}")
}

#[test]
fn sighup_reads_settings_and_tokens_again_and_ends_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::new(&small(), 0);
    world.engine();
    let (address, artifact, folder) = (free(), world.folder(), tempfile::tempdir().unwrap());
    let (spec_file, token_file) = (folder.path().join("serve.toml"), folder.path().join("token"));
    let spec = |more: &str| {
        let token = format!("[[auth.tokens]]\nname = \"a\"\nroles = [\"read\"]\nfile = {token_file:?}\n{more}");
        std::fs::write(&spec_file, format!("[tls]\nreload_seconds = 1000\n[listen]\nhttp = \"{address}\"\n{token}"))
            .unwrap();
    };
    spec("");
    std::fs::write(&token_file, "the-first-token-of-all").unwrap();
    let read = {
        let spec_file = spec_file.clone();
        move || ServeSpec::read(Some(&spec_file), &[])
    };
    let first = read().unwrap();
    let served = std::thread::spawn(move || tempograph_serving::serve_rereading(&artifact, &first, read));
    assert!(ask(address).contains("ready"));
    assert_eq!(status_of(address, "the-first-token-of-all"), 200);
    // A rotated token.
    std::fs::write(&token_file, "the-second-token-of-all").unwrap();
    raise("-HUP");
    until("the newer token is taken", || status_of(address, "the-second-token-of-all") == 200);
    assert_eq!(status_of(address, "the-first-token-of-all"), 401);
    // Settings that are broken, and a token that is too short, change nothing.
    std::fs::write(&spec_file, "[auth").unwrap();
    raise("-HUP");
    std::fs::write(&token_file, "short").unwrap();
    raise("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(status_of(address, "the-second-token-of-all"), 200);
    // A token that is new in the settings.
    std::fs::write(&token_file, "the-second-token-of-all").unwrap();
    std::fs::write(folder.path().join("other"), "a-token-that-is-new-here").unwrap();
    spec(&format!("[[auth.tokens]]\nname = \"b\"\nroles = [\"read\"]\nfile = {:?}\n", folder.path().join("other")));
    raise("-HUP");
    until("the new token is taken", || status_of(address, "a-token-that-is-new-here") == 200);
    raise("-TERM");
    served.join().unwrap().unwrap();
}

#[test]
fn a_stopping_server_answers_until_load_balancers_have_noticed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = World::new(&small(), 0);
    world.engine();
    let (address, folder) = (free(), world.folder());
    let spec = ServeSpec::parse("", &[format!("listen.http={address}")]).unwrap();
    let served = std::thread::spawn(move || tempograph_serving::serve(&folder, &spec));
    assert!(ask(address).contains("ready"));
    raise("-TERM");
    std::thread::sleep(Duration::from_millis(300));
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request("GET", path, "").as_bytes()).unwrap();
        response(&mut stream)
    };
    assert_eq!(get("/v1/model").0, 200);
    assert_eq!(get("/health/ready").0, 503);
    served.join().unwrap().unwrap();
}
