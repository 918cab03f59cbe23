//! The page that `tempograph report` writes.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{fails, succeeds};

const SPEC: &str = r#"
threads = 1
[data]
path = "synthetic:events=600,users=20,items=15"
[model]
kind = "tgn"
memory = 8
time = 8
width = 8
neighbours = 4
[train]
batch = 50
epochs = 3
[eval]
negatives = 20
rules = ["random", "historical"]
"#;

/// Two runs that differ in the seed, and one of another kind.
fn three_runs(folder: &Path) {
    fs::write(folder.join("spec.toml"), SPEC).unwrap();
    for (name, sets) in [("one", ["seed=1", "name=one"]), ("two", ["seed=2", "name=two"])] {
        let out = format!("runs/{name}");
        succeeds(folder, &["train", "spec.toml", "--set", sets[0], "--set", sets[1], "--out", &out]);
    }
    let spec = SPEC.replace("neighbours = 4\n", "").replace("\"tgn\"", "\"jodie\"");
    fs::write(folder.join("other.toml"), spec).unwrap();
    succeeds(folder, &["train", "other.toml", "--out", "runs/three", "--set", "name=a<b>"]);
}

#[test]
fn a_page_shows_every_number_of_its_runs_and_needs_no_other_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    three_runs(path);
    succeeds(path, &["report", "runs/one", "runs/two", "runs/three", "--out", "all.html"]);
    let page = fs::read_to_string(path.join("all.html")).unwrap();
    for run in ["one", "two", "three"] {
        let report: Value =
            serde_json::from_slice(&fs::read(path.join(format!("runs/{run}/report.json"))).unwrap()).unwrap();
        for rule in ["random", "historical"] {
            for metric in ["ap", "auc", "mrr", "hits1"] {
                let number = format!("{:.4}", report["test_by_rule"][rule][metric].as_f64().unwrap());
                assert!(page.contains(&format!("<td>{number}</td>")), "{run}: {rule} {metric} {number} is missing");
            }
        }
        for baseline in report["floors"].as_array().unwrap() {
            assert!(page.contains(baseline["name"].as_str().unwrap()));
        }
    }
    let mrr = |run: &str| -> f64 {
        let report: Value =
            serde_json::from_slice(&fs::read(path.join(format!("runs/{run}/report.json"))).unwrap()).unwrap();
        report["test"]["mrr"].as_f64().unwrap()
    };
    let (one, two) = (mrr("one"), mrr("two"));
    let over_seeds = format!("{:.4} ± {:.4}", (one + two) / 2.0, (one - two).abs() / 2f64.sqrt());
    assert!(page.contains(&over_seeds), "the two seeds have {over_seeds}");
    assert!(page.contains("model.kind") && page.contains("&quot;jodie&quot;"), "settings that differ");
    assert!(page.contains("a&lt;b&gt;") && !page.contains("a<b>"), "a name is text");
    assert_eq!(page.matches("<svg").count(), 5, "five charts");
    for outside in ["http://", "https://", "<script", "<link", "src="] {
        let allowed = page.matches("http://www.w3.org/2000/svg").count();
        let found = page.matches(outside).count();
        assert!(found == 0 || outside == "http://" && found == allowed, "{outside} {found} times");
    }
}

#[test]
fn a_single_run_has_its_page_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("spec.toml"), SPEC).unwrap();
    succeeds(path, &["train", "spec.toml", "--out", "run", "--set", "parallel.prefetch=1"]);
    let printed = succeeds(path, &["report", "run"]);
    assert!(printed.contains("run/report.html"), "{printed}");
    let page = fs::read_to_string(path.join("run/report.html")).unwrap();
    assert!(page.contains("Staleness") && page.contains("Where the time goes"), "{page}");
    assert!(!page.contains("Settings that differ") && !page.contains("Over seeds"));
}

#[test]
fn a_run_whose_process_was_killed_is_distinguished_from_one_that_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("spec.toml"), SPEC).unwrap();
    succeeds(path, &["train", "spec.toml", "--out", "run"]);
    // This is what a killed process leaves behind.
    let mut report: Value = serde_json::from_slice(&fs::read(path.join("run/report.json")).unwrap()).unwrap();
    report["status"] = "running".into();
    fs::write(path.join("run/report.json"), report.to_string()).unwrap();
    let lock = fs::File::create(path.join("run/lock")).unwrap();
    let page = || {
        succeeds(path, &["report", "run"]);
        fs::read_to_string(path.join("run/report.html")).unwrap()
    };
    assert!(page().contains("failed: its process was killed"));
    lock.lock().unwrap();
    assert!(page().contains("is under way"));
    drop(lock);
    fs::remove_file(path.join("run/lock")).unwrap();
    assert!(page().contains("failed: its process was killed"));
}

#[test]
fn a_path_that_is_no_run_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("empty")).unwrap();
    assert!(fails(path, &["report", "empty"]).contains("empty holds no run"));
    assert!(fails(path, &["report", "nowhere"]).contains("nowhere"));
    fs::write(path.join("report.json"), "{\"schema\": 1}").unwrap();
    assert!(fails(path, &["report", "report.json"]).contains("missing field"));
    assert!(!path.join("runs.html").exists());
}
