//! The Python client and the page, each against a server process. What they need and is not there is said, and skipped.
#![allow(clippy::unwrap_used, reason = "tests")]

mod browser;
#[path = "../common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use browser::{Browser, chromium};
use common::Server;

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../serving/python")
}

#[test]
fn the_python_client_does_what_its_tests_say() {
    if Command::new("python3").arg("--version").output().is_err() {
        return println!("skipped: there is no python3");
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(folder.path());
    for script in ["tests/test_client.py", "example.py"] {
        let mut command = Command::new("python3");
        command.arg("-B").arg(python().join(script)).env("TEMPOGRAPH_URL", &server.url).env("PYTHONPATH", python());
        let ran = command.output().unwrap();
        assert!(
            ran.status.success(),
            "{script}: {}{}",
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr)
        );
    }
}

#[test]
fn the_page_shows_the_server_and_moves_its_scores() {
    let Some(program) = chromium() else { return println!("skipped: there is no Chromium to open the page in") };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(folder.path());
    let mut browser = Browser::open(program, &format!("{}/", server.url));
    browser.wait_for("document.getElementById('state').textContent === 'ready'");
    browser.wait_for("document.getElementById('seen').textContent.startsWith('900 events seen')");
    browser.wait_for("document.getElementById('model').textContent.startsWith('tgn-')");
    // Charts have something to show once they were drawn twice.
    browser.wait_for("document.getElementById('throughput-key').textContent.includes('events 0.0')");

    let submit = |form: &str, src: u64, dst: u64| {
        format!(
            "(() => {{ const form = document.getElementById('{form}'); form.src.value = {src}; form.dst.value = {dst}; form.requestSubmit(); return true; }})()"
        )
    };
    browser.value(&submit("explain", 1, 1));
    browser.wait_for("document.getElementById('explain-said').textContent.startsWith('score ')");
    browser.wait_for("document.querySelectorAll('#neighbours tr').length > 1");
    browser.value(&submit("event", 1, 1));
    browser.wait_for("document.getElementById('event-said').textContent.startsWith('event 900 is applied')");
    browser.wait_for(
        "[...document.querySelectorAll('#moved span')].some(one => /^[+-]0\\.\\d*[1-9]/.test(one.textContent))",
    );
    browser.wait_for("document.getElementById('seen').textContent.startsWith('901 events seen')");

    // Something was drawn in each chart that is about reads and events.
    let drawn = "['latency', 'throughput', 'lag', 'staleness', 'touched'].every(id => series[id][0].some(value => value != null && isFinite(value)))";
    browser.wait_for(drawn);
    browser.wait_for("series.throughput[0].some(value => value > 0) && series.latency[0].some(value => value > 0)");

    browser.value(&submit("explain", 123456, 1));
    browser.wait_for("document.getElementById('explain-said').textContent.includes('no source has the id 123456')");
}
