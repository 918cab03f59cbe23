//! Train, evaluate, export, serve: the served model gives the offline scores when the test split is replayed through
//! HTTP.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, File};

use common::{Server, succeeds, train_small};
use serde_json::{Value, json};
use tempograph_framework::Store;

const BATCH: usize = 50;

fn spec(lookup: &str) -> String {
    common::spec(&format!(
        "pair_features = true\nhistory = \"{lookup}\"\n[train]\nbatch = {BATCH}\nepochs = 2\nlr = 1e-2\n[eval]\nnegatives = 5\n"
    ))
}

fn post(server: &Server, route: &str, body: &Value) -> Value {
    let mut response =
        ureq::post(format!("{}{route}", server.url)).content_type("application/json").send(body.to_string()).unwrap();
    serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
}

#[test]
fn replaying_the_test_split_over_http_gives_the_offline_scores() {
    for lookup in ["exact", "batch"] {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        fs::write(folder.join("tiny.toml"), spec(lookup)).unwrap();
        succeeds(folder, &["train", "tiny.toml"]);
        succeeds(folder, &["export", "runs/tiny", "--until", "val", "--out", "before-test", "--quick"]);
        let found: Value =
            serde_json::from_str(&succeeds(folder, &["eval", "runs/tiny", "--scores", "scores.safetensors", "--json"]))
                .unwrap();
        let report: Value = serde_json::from_slice(&fs::read(folder.join("runs/tiny/report.json")).unwrap()).unwrap();
        for metric in ["ap", "auc", "mrr", "count", "ranked"] {
            assert_eq!(
                found["by_rule"]["random"][metric], report["test"][metric],
                "{lookup}: {metric} of eval and of training"
            );
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
            let asked: Vec<Value> =
                (at..end).map(|i| json!({ "src": src[i], "dst": dst[i], "time": time[i] })).collect();
            let events: Vec<&Value> = (at..end).filter(|&i| positive[i] == 1).map(|i| &asked[i - at]).collect();
            let during = if lookup == "exact" { json!(events) } else { json!([]) };
            let answer = post(&server, "/v1/score", &json!({ "queries": asked, "during": during }));
            for (i, score) in answer["scores"].as_array().unwrap().iter().enumerate() {
                let (served, offline) = (score.as_f64().unwrap(), f64::from(pairs[at + i]));
                assert!(
                    (served - offline).abs() <= 1e-5,
                    "{lookup}, pair {}: {served} served, {offline} offline",
                    at + i
                );
            }
            post(&server, "/v1/events", &json!({ "events": events, "granularity": "batch" }));
            at = end;
        }
    }
}

#[cfg(unix)]
#[test]
fn a_log_in_json_is_an_object_a_line() {
    let place = tempfile::tempdir().unwrap();
    let (folder, path) = (place.path(), place.path().join("log"));
    let options = ["--set", "logging.format=json", "--set", "logging.level=debug"];
    Server::start_with(folder, train_small(folder), &options, File::create(&path).unwrap().into()).end();
    let log = fs::read_to_string(&path).unwrap();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "target"] {
            assert!(line[key].is_string(), "{key} of {line}");
        }
    }
    assert!(log.contains("asked to stop"), "{log}");
}

#[test]
fn a_server_that_was_killed_says_how_soon_it_is_ready_again_and_how_much_it_replayed() {
    let place = tempfile::tempdir().unwrap();
    let artifact = train_small(place.path());
    let server = Server::start(place.path(), artifact);
    assert!(server.greeting.contains(", with 0 events of the log replayed"), "{}", server.greeting);
    let mut model = ureq::get(format!("{}/v1/model", server.url)).call().unwrap();
    let model: Value = serde_json::from_str(&model.body_mut().read_to_string().unwrap()).unwrap();
    let newest = model["newest"].as_u64().unwrap();
    let events: Vec<Value> = (0..7).map(|i| json!({ "src": i, "dst": i, "time": newest + i })).collect();
    post(&server, "/v1/events", &json!({ "events": events, "ack": "durable" }));
    drop(server);
    let server = Server::start(place.path(), artifact);
    let reported = server.greeting.lines().find_map(|line| line.strip_prefix("ready after ")).unwrap();
    let (seconds, rest) = reported.split_once(" s, with ").unwrap();
    assert!(seconds.parse::<f64>().unwrap() > 0.0 && rest == "7 events of the log replayed", "{reported}");
    let mut metrics = ureq::get(format!("{}/metrics", server.url)).call().unwrap();
    let metrics = metrics.body_mut().read_to_string().unwrap();
    assert!(metrics.lines().any(|line| line == "tempograph_replayed_events_total 7"), "{metrics}");
}

#[test]
fn an_export_compares_scores_of_single_events_with_scores_of_batches() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    train_small(folder);
    let said = succeeds(folder, &["export", "runs/tiny", "--out", "exported"]);
    let reported = |name: &str| {
        let row = said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {said}"));
        row.split_whitespace().map(String::from).collect::<Vec<_>>()
    };
    let found: Value = serde_json::from_str(&succeeds(folder, &["eval", "runs/tiny", "--json"])).unwrap();
    let of_eval = |metric: &str| format!("{:.4}", found["by_rule"]["random"][metric].as_f64().unwrap());
    let (batched, single) = (reported("by 50, as trained"), reported("one by one, as served"));
    assert_eq!(batched, ["ap", "auc", "mrr", "hits10"].map(of_eval));
    assert_ne!(batched, single, "in batches of 50 events of one node hide each other");
}
