//! A served artifact stops when the system asks it to.
#![cfg(unix)]
mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::{World, request, response, small};
use tempograph_serving::ServeSpec;

/// An answer, once there is a server.
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

#[test]
fn a_served_artifact_stops_at_sigterm() {
    let world = World::new(&small(), 0);
    world.engine();
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let folder = world.folder();
    let spec = ServeSpec::parse("", &[format!("listen.http={address}")]).unwrap();
    let served = std::thread::spawn(move || tempograph_serving::serve(&folder, &spec));
    assert!(ask(address).contains("ready"));
    let sent = Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status().unwrap();
    assert!(sent.success());
    served.join().unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}
