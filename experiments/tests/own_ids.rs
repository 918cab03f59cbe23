//! A lab's own ids, from its table to the answers of the server.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::common::{Server, fails, succeeds};

const USERS: [&str; 7] = ["ada", "bob", "chi", "dan", "eve", "fay", "żółć"];
const PAGES: [&str; 5] = ["ada", "home", "help/\"quoted\"", "7", "007"];

/// Rows with ids that are text, dates with zones, an action and two missing cells. `ada` is a user and a page.
fn lab_csv() -> String {
    let mut csv = String::from("user,page,when,action,seconds\n");
    for i in 0..600usize {
        let (user, page) = (USERS[i * i % 7], PAGES[(i * 3 + i / 40) % 5].replace('"', "\"\""));
        let action = ["view", "edit", "like"][i % 3];
        let seconds = if i == 100 || i == 501 { String::new() } else { format!("{}.5", i % 9) };
        let (minute, second) = (i / 60, i % 60);
        writeln!(csv, "{user},\"{page}\",2026-03-01T10:{minute:02}:{second:02}+01:00,{action},{seconds}").unwrap();
    }
    csv
}

const SPEC: &str = r#"
threads = 1
[data]
path = "lab"
[model]
kind = "tgn"
memory = 8
time = 8
width = 8
neighbours = 4
[train]
batch = 50
epochs = 2
[eval]
negatives = 4
"#;

/// From the table to a served model in three commands, of which this runs two.
fn trained(folder: &Path) {
    fs::write(folder.join("lab.csv"), lab_csv()).unwrap();
    fs::write(folder.join("lab.toml"), SPEC).unwrap();
    let printed = succeeds(
        folder,
        &[
            "prepare",
            "lab.csv",
            "--out",
            "lab",
            "--src",
            "user",
            "--dst",
            "page",
            "--ts",
            "when",
            "--categorical",
            "action",
            "--missing",
            "zero",
        ],
    );
    assert!(printed.contains("600"), "{printed}");
    succeeds(folder, &["train", "lab.toml", "--out", "run"]);
}

fn post(server: &Server, path: &str, body: &Value) -> Value {
    let url = format!("{}{path}", server.url);
    let answer = ureq::post(&url)
        .config()
        .http_status_as_error(false)
        .build()
        .header("content-type", "application/json")
        .send(body.to_string());
    serde_json::from_str(&answer.unwrap().body_mut().read_to_string().unwrap()).unwrap()
}

fn pages(ranked: &Value) -> Vec<&str> {
    ranked["ranked"].as_array().unwrap().iter().map(|one| one["dst"].as_str().unwrap()).collect()
}

#[test]
fn a_server_speaks_the_ids_of_the_table_also_those_that_are_new_and_after_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    trained(path);
    let features = |action: usize| {
        let mut row = vec![0.0; 4];
        row[action] = 1.0;
        row
    };
    let mut server = Server::start(path, "run/artifact");
    let ranked = post(&server, "/v1/rank", &json!({ "src": "ada", "k": 5 }));
    let mut found = pages(&ranked);
    found.sort_unstable();
    let mut all = PAGES.to_vec();
    all.sort_unstable();
    assert_eq!(found, all, "{ranked}");
    let unknown = post(&server, "/v1/rank", &json!({ "src": "zoe", "k": 5 }));
    assert_eq!(unknown["error"], "src: no source has the id `zoe`");
    // Nodes that are new: one by text, one by a number, which is the text that it is written as.
    let width = {
        let model: Value = serde_json::from_str(
            &ureq::get(&format!("{}/v1/model", server.url)).call().unwrap().body_mut().read_to_string().unwrap(),
        )
        .unwrap();
        assert_eq!(model["manifest"]["text_ids"], true);
        model["manifest"]["widths"]["edge"].as_u64().unwrap() as usize
    };
    let features: Vec<f64> = features(1).into_iter().cycle().take(width).collect();
    let events = json!({ "ack": "applied", "events": [
        { "src": "zoe", "dst": "new page", "time": 1_772_356_300, "features": features, "id": "z1" },
        { "src": 12, "dst": "new page", "time": 1_772_356_301, "features": features, "id": "z2" },
    ]});
    let receipt = post(&server, "/v1/events", &events);
    assert_eq!(receipt["accepted"], 2, "{receipt}");
    let ask = json!({ "queries": [{ "src": "zoe", "dst": "new page" }, { "src": "12", "dst": "ada" }] });
    let before = post(&server, "/v1/score", &ask)["scores"].clone();
    let explained = post(&server, "/v1/explain", &json!({ "src": "zoe", "dst": "new page" }));
    assert_eq!(explained["explanation"]["src"][0]["node"], "new page", "{explained}");
    for (wrong, why) in [
        (json!(""), "events[0].src is empty"),
        (json!("x".repeat(2000)), "is an id of 2000 bytes"),
        (json!(1.5), "an id: a whole number from 0, or text"),
        (json!(-3), "an id: a whole number from 0, or text"),
    ] {
        let event = json!({ "events": [{ "src": wrong, "dst": "ada", "time": 1_772_356_302, "features": features }] });
        let refused = post(&server, "/v1/events", &event);
        assert!(refused["error"].as_str().unwrap().contains(why), "{refused}");
    }
    server.kill();
    let server = Server::start_with(path, "run/artifact", &[], Stdio::null());
    assert_eq!(post(&server, "/v1/score", &ask)["scores"], before, "the log has the ids");
    assert!(pages(&post(&server, "/v1/rank", &json!({ "src": "zoe", "k": 9 }))).contains(&"new page"));
}

#[test]
fn scores_in_a_table_have_the_ids_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    trained(path);
    succeeds(path, &["eval", "run", "--scores", "scores.csv"]);
    let mut table = csv::Reader::from_path(path.join("scores.csv")).unwrap();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert!(rows.len() > 90 && rows.iter().all(|row| USERS.contains(&&row[1]) && PAGES.contains(&&row[2])));
    assert!(rows.iter().any(|row| &row[2] == "help/\"quoted\""));
    assert_eq!(rows.iter().filter(|row| &row[4] == "1").count(), 90, "the events of the test split");
    assert!(fails(path, &["eval", "run", "--scores", "nowhere/scores.csv"]).contains("nowhere/scores.csv"));
}

#[cfg(unix)]
#[test]
fn scores_that_do_not_fit_on_the_disk_leave_the_earlier_file_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    trained(path);
    succeeds(path, &["eval", "run", "--scores", "scores.csv"]);
    let earlier = fs::read(path.join("scores.csv")).unwrap();
    // The system refuses to write more than one block, as it does on a full disk.
    let script =
        format!("trap '' XFSZ; ulimit -f 1; exec {} eval run --scores scores.csv", env!("CARGO_BIN_EXE_tempograph"));
    let output = Command::new("bash").args(["-c", &script]).current_dir(path).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("cannot write scores.csv"), "{error}");
    assert!(fs::read(path.join("scores.csv")).unwrap() == earlier);
    assert!(!path.join("scores.csv.partial").exists());
}

#[test]
fn ids_that_are_numbers_may_be_written_as_text_and_other_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let server = Server::of_a_small_model(path);
    let number = post(&server, "/v1/rank", &json!({ "src": 1, "k": 3 }));
    let text = post(&server, "/v1/rank", &json!({ "src": "1", "k": 3 }));
    assert_eq!(number, text);
    assert!(number["ranked"][0]["dst"].is_u64(), "{number}");
    let event = json!({ "events": [{ "src": "ada", "dst": 1, "time": 1e17 as u64 }] });
    let refused = post(&server, "/v1/events", &event);
    assert_eq!(refused["error"], "events[0].src is `ada`, and the ids of this set are whole numbers");
    assert_eq!(post(&server, "/v1/rank", &json!({ "src": "01", "k": 3 }))["code"], "unknown_node");
}
