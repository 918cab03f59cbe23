//! The Python client and the page, each against a server process. What they need and is not there is said, and skipped.
#![allow(clippy::unwrap_used, reason = "tests")]

mod browser;
#[path = "../common/mod.rs"]
mod common;
mod page;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::Server;

fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../serving/python")
}

/// The Python that has what the tests need: `TEMPOGRAPH_PYTHON`, or `python3`.
fn interpreter() -> Command {
    Command::new(std::env::var("TEMPOGRAPH_PYTHON").unwrap_or_else(|_| "python3".into()))
}

/// Runs Python with a server's address. Gives what it printed where it failed.
fn runs(args: &[&str], url: &str, folder: &Path) -> Result<(), String> {
    let mut command = interpreter();
    command.arg("-B").args(args).env("TEMPOGRAPH_URL", url).env("PYTHONPATH", python());
    command.env("TEMPOGRAPH_BIN", env!("CARGO_BIN_EXE_tempograph"));
    command.env("TEMPOGRAPH_ARTIFACT", folder.join("runs/tiny/artifact"));
    let ran = command.current_dir(python()).output().map_err(|error| error.to_string())?;
    let printed = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if ran.status.success() { Ok(()) } else { Err(printed) }
}

#[test]
fn the_python_client_does_what_its_tests_say() {
    if interpreter().arg("--version").output().is_err() {
        return println!("skipped: there is no python3");
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::of_a_small_model(folder.path());
    runs(&["example.py"], &server.url, folder.path()).unwrap_or_else(|printed| panic!("example.py: {printed}"));
    if runs(&["-c", "import pytest"], &server.url, folder.path()).is_err() {
        return println!("skipped: the tests of the Python client need `pip install './serving/python[test]'`");
    }
    let tests = ["-m", "pytest", "-q", "tests"];
    runs(&tests, &server.url, folder.path()).unwrap_or_else(|printed| panic!("tests: {printed}"));
}
