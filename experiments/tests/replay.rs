//! Train, examine, export, serve: the served model gives the offline scores when the test split is replayed through HTTP.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempograph_framework::Store;

const BATCH: usize = 50;

fn spec(lookup: &str) -> String {
    format!(
        "[data]\npath = \"synthetic:events=900,users=20,items=15\"\n[model]\nkind = \"tgn\"\nmemory = 8\ntime = 8\nwidth = 8\nneighbours = 4\n\
         pair_features = true\nhistory = \"{lookup}\"\n[train]\nbatch = {BATCH}\nepochs = 2\nlr = 1e-2\n[eval]\nnegatives = 5\n"
    )
}

fn tempograph(folder: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tempograph")).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A server process, stopped when it is dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(folder: &Path, artifact: &str) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
        command.args(["serve", artifact, "--listen", "127.0.0.1:0"]).current_dir(folder).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = said.find(|line| line.as_ref().unwrap().contains("http://")).unwrap().unwrap();
        let url = line[line.find("http://").unwrap()..].split_whitespace().next().unwrap().to_string();
        Server { process, url }
    }

    fn post(&self, route: &str, body: &Value) -> Value {
        let mut response = ureq::post(format!("{}{route}", self.url)).content_type("application/json").send(body.to_string()).unwrap();
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn replaying_the_test_split_over_http_gives_the_offline_scores() {
    for lookup in ["exact", "batch"] {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        fs::write(folder.join("tiny.toml"), spec(lookup)).unwrap();
        tempograph(folder, &["train", "tiny.toml"]);
        tempograph(folder, &["export", "runs/tiny", "--until", "val", "--out", "before-test"]);
        let found: Value =
            serde_json::from_str(&tempograph(folder, &["eval", "runs/tiny", "--scores", "scores.safetensors", "--json"])).unwrap();
        let report: Value = serde_json::from_slice(&fs::read(folder.join("runs/tiny/report.json")).unwrap()).unwrap();
        for metric in ["ap", "auc", "mrr", "count", "ranked"] {
            assert_eq!(found["by_rule"]["random"][metric], report["test"][metric], "{lookup}: {metric} of eval and of training");
        }

        let mut offline = Store::read(&folder.join("scores.safetensors")).unwrap();
        let pairs = offline.take::<f32>("score").unwrap().1;
        let [event, src, dst] = ["event", "src", "dst"].map(|name| offline.take::<u64>(name).unwrap().1);
        let time = offline.take::<i64>("time").unwrap().1;
        let positive = offline.take::<u32>("positive").unwrap().1;
        let server = Server::start(folder, "before-test");
        let first = event[0];
        let batch_of = |pair: usize| (event[pair] - first) as usize / BATCH;
        let mut at = 0;
        while at < pairs.len() {
            let end = (at..pairs.len()).find(|&pair| batch_of(pair) != batch_of(at)).unwrap_or(pairs.len());
            let asked: Vec<Value> = (at..end).map(|i| json!({ "src": src[i], "dst": dst[i], "time": time[i] })).collect();
            let events: Vec<&Value> = (at..end).filter(|&i| positive[i] == 1).map(|i| &asked[i - at]).collect();
            let during = if lookup == "exact" { json!(events) } else { json!([]) };
            let answer = server.post("/v1/score", &json!({ "queries": asked, "during": during }));
            for (i, score) in answer["scores"].as_array().unwrap().iter().enumerate() {
                let (served, offline) = (score.as_f64().unwrap(), f64::from(pairs[at + i]));
                assert!((served - offline).abs() <= 1e-5, "{lookup}, pair {}: {served} served, {offline} offline", at + i);
            }
            server.post("/v1/events", &json!({ "events": events, "granularity": "batch" }));
            at = end;
        }
    }
}
