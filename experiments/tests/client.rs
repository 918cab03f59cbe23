//! The Python client and the page, each against a server process. What they need and is not there is said, and skipped.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server process, stopped when it is dropped.
struct Server {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let spec = "[data]\npath = \"synthetic:events=900,users=20,items=15\"\n[model]\nkind = \"tgn\"\nmemory = 8\ntime = 8\nwidth = 8\nneighbours = 4\n[train]\nbatch = 50\nepochs = 1\n";
        fs::write(folder.path().join("tiny.toml"), spec).unwrap();
        let program = env!("CARGO_BIN_EXE_tempograph");
        let trained = Command::new(program).args(["train", "tiny.toml"]).current_dir(folder.path()).output().unwrap();
        assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
        let mut command = Command::new(program);
        command.args(["serve", "runs/tiny/artifact", "--listen", "127.0.0.1:0"]).current_dir(folder.path()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = said.find(|line| line.as_ref().unwrap().contains("http://")).unwrap().unwrap();
        let url = line[line.find("http://").unwrap()..].split_whitespace().next().unwrap().to_string();
        Server { process, url, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../serving/python")
}

#[test]
fn the_python_client_does_what_its_tests_say() {
    if Command::new("python3").arg("--version").output().is_err() {
        return println!("skipped: there is no python3");
    }
    let server = Server::start();
    for script in ["tests/test_client.py", "example.py"] {
        let mut command = Command::new("python3");
        command.arg("-B").arg(python().join(script)).env("TEMPOGRAPH_URL", &server.url).env("PYTHONPATH", python());
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{script}: {}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    }
}

/// Chromium under one of its names.
fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| Command::new(name).arg("--version").output().is_ok())
}

#[test]
fn the_page_shows_the_server_in_a_browser() {
    let Some(browser) = chromium() else { return println!("skipped: there is no Chromium to open the page in") };
    let server = Server::start();
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=6000", "--dump-dom"]);
    let shown = command.arg(format!("--user-data-dir={}", profile.path().display())).arg(format!("{}/", server.url)).output().unwrap();
    let page = String::from_utf8_lossy(&shown.stdout);
    assert!(page.contains(r#"<span id="state">ready</span>"#), "{page}\n{}", String::from_utf8_lossy(&shown.stderr));
    assert!(page.contains("900 events seen"), "{page}");
    assert!(page.contains(r#"<span id="model">tgn-"#), "{page}");
}
