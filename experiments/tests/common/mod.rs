//! The program and a server of it as processes, for tests that talk to one.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Events of a model that is trained in no time.
pub const DATA: &str = "synthetic:events=900,users=20,items=15";

/// Its spec, with more settings of the model behind its own, and of what else there is.
pub fn spec(more: &str) -> String {
    format!(
        "[data]\npath = \"{DATA}\"\n[model]\nkind = \"tgn\"\nmemory = 8\ntime = 8\nwidth = 8\nneighbours = 4\n{more}"
    )
}

/// Runs the program in a folder.
pub fn tempograph(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tempograph")).args(args).current_dir(folder).output().unwrap()
}

/// Runs a command that must succeed. Gives its output.
#[track_caller]
pub fn succeeds(folder: &Path, args: &[&str]) -> String {
    let output = tempograph(folder, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail. Gives its error message.
#[track_caller]
pub fn fails(folder: &Path, args: &[&str]) -> String {
    let output = tempograph(folder, args);
    assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// Trains a model in `folder`. Gives the name of its artifact.
pub fn train_small(folder: &Path) -> &'static str {
    fs::write(folder.join("tiny.toml"), spec("[train]\nbatch = 50\nepochs = 1\n")).unwrap();
    succeeds(folder, &["train", "tiny.toml"]);
    "runs/tiny/artifact"
}

/// A server process, killed when it is dropped.
pub struct Server {
    process: Child,
    pub url: String,
    /// Its message when it was ready.
    pub greeting: String,
}

impl Server {
    /// Serves an artifact that is in `folder`.
    pub fn start(folder: &Path, artifact: &str) -> Server {
        Server::start_with(folder, artifact, &[], Stdio::inherit())
    }

    /// The same with more options; what it logs goes to `log`.
    pub fn start_with(folder: &Path, artifact: &str, options: &[&str], log: Stdio) -> Server {
        Server::of_program(env!("CARGO_BIN_EXE_tempograph").as_ref(), folder, artifact, options, log)
    }

    /// The same of another program with our command line.
    pub fn of_program(program: &Path, folder: &Path, artifact: &str, options: &[&str], log: Stdio) -> Server {
        let mut command = Command::new(program);
        command.args(["serve", artifact, "--listen", "127.0.0.1:0"]).args(options).current_dir(folder);
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut greeting = String::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            greeting += &(line.unwrap() + "\n");
            if greeting.contains("try: ") {
                break;
            }
        }
        let url = greeting[greeting.find("http://").unwrap()..].split_whitespace().next().unwrap().to_string();
        Server { process, url, greeting }
    }

    /// Trains a model in `folder`, and serves it.
    pub fn of_a_small_model(folder: &Path) -> Server {
        Server::start(folder, train_small(folder))
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success() && self.process.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}
