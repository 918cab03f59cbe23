//! A server stops at a signal, or when its artifact cannot be brought up to its log.
#![cfg(unix)]
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
