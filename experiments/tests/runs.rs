//! The folder of a run, what it was trained on, and what its numbers are called.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::common::{fails, succeeds, tempograph};

const SPEC: &str = r#"
seed = 3
threads = 1
[data]
path = "set"
[model]
kind = "tgn"
memory = 8
time = 8
width = 8
neighbours = 4
[train]
batch = 20
epochs = 2
lr = 1e-2
[eval]
negatives = 5
"#;

/// A folder with a prepared set, another one and a spec.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.path("run.toml"), SPEC).unwrap();
        fs::write(place.path("a.csv"), csv(400, 1)).unwrap();
        fs::write(place.path("b.csv"), csv(400, 3)).unwrap();
        fs::write(place.path("short.csv"), csv(60, 1)).unwrap();
        place.prepare("a.csv", "set");
        place
    }

    /// With a finished run in `run`.
    fn trained() -> Place {
        let place = Place::new();
        place.train(&[]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn prepare(&self, csv: &str, set: &str) {
        let output = tempograph(self.0.path(), &["prepare", csv, "--out", set, "--force"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn train(&self, more: &[&str]) -> String {
        succeeds(self.0.path(), &[&["train", "run.toml", "--out", "run"], more].concat())
    }

    fn refuses(&self, args: &[&str]) -> String {
        let said = fails(self.0.path(), args);
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        said
    }

    fn refuses_to_train(&self, more: &[&str]) -> String {
        self.refuses(&[&["train", "run.toml", "--out", "run"], more].concat())
    }

    fn report(&self, run: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(run).join("report.json")).unwrap()).unwrap()
    }

    /// All files under a folder with their content.
    fn files(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found)
                } else {
                    _ = found.insert(path.clone(), fs::read(&path).unwrap())
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.path(folder), &mut found);
        found
    }

    fn start(&self, more: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
        command.args(["train", "run.toml", "--out", "run", "--set", "train.epochs=3000"]).args(more);
        command.current_dir(self.0.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn csv(events: usize, turn: usize) -> String {
    let row = |i: usize| format!("{},{},{},0,{}.5\n", 100 + (turn * i) % 7, 900 + (i % 7 + i / 100) % 5, 10 * i, i % 3);
    std::iter::once("src,dst,ts,label,weight\n".to_string()).chain((0..events).map(row)).collect()
}

/// Waits for a line that begins so on a process's standard error. The rest is read, so that it can go on.
fn wait_for_line(child: &mut Child, begin: &'static str) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with(begin)), "{begin}");
    std::thread::spawn(move || lines.for_each(drop));
}

#[test]
fn a_command_that_is_refused_leaves_a_run_as_it_was() {
    let place = Place::trained();
    let before = place.files("run");
    for (more, says) in [
        (&["--force", "--set", "parallel.memory=1000"][..], "parallel.memory = 1000"),
        (&["--force", "--set", "train.lr=-1"], "train.lr = -1"),
        (&["--force", "--set", "model.width=-1"], "width"),
        (&["--force", "--set", "data.path=nowhere"], "nowhere"),
        (&["--force", "--set", "threads=100000"], "threads = 100000; at most"),
        (&["--force", "--set", "parallel.threads=100000"], "parallel.threads = 100000; at most"),
        (&["--force", "--set", "eval.negatives=10000000"], "at most"),
        (&["--force", "--set", "train.batch=1000000000000"], "train.batch = 1000000000000"),
        (&["--force", "--set", "model.memory=1000000000"], "model.memory = 1000000000"),
        (&["--force", "--set", "seed=18446744073709551615"], "no integer of TOML"),
        (&["--force", "--set", "eval.val_every=1000"], "eval.val_every = 1000 ranks one"),
        (&["--force", "--trace", "nowhere/trace.json"], "nowhere/trace.json"),
        (&["--resume", "--trace", "nowhere/trace.json"], "nowhere/trace.json"),
        (&["--resume", "--set", "model.neighbours=3"], "model.neighbours is 3 and was 4"),
        (&["--resume", "--set", "train.epochs=1"], "train.epochs is 1 and was 2"),
        (&["--resume", "--set", "eval.negatives=6"], "eval.negatives is 6 and was 5"),
        (&[], "--resume goes on with it"),
    ] {
        let said = place.refuses_to_train(more);
        assert!(said.contains(says), "{more:?}: {said}");
        assert!(place.files("run") == before, "{more:?} left other files");
    }
    place.refuses_to_train(&["--resume", "--trace", "trace.json", "--set", "seed=4"]);
    assert!(!place.path("trace.json").exists(), "a trace of nothing");
    // Other data under the same name, a set that is damaged, a damaged checkpoint and a damaged best model.
    place.prepare("b.csv", "set");
    let said = place.refuses_to_train(&["--resume"]);
    assert!(said.contains("checkpoint.safetensors") && said.contains("data.path"), "{said}");
    assert!(place.files("run") == before);
    place.prepare("a.csv", "set");
    for name in ["checkpoint.safetensors", "best.safetensors"] {
        let (path, mut bytes) = (place.path("run").join(name), before[&place.path("run").join(name)].clone());
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let damaged = place.files("run");
        let said = place.refuses_to_train(&["--resume"]);
        assert!(said.contains(name) && said.contains("SHA-256"), "{said}");
        assert!(place.files("run") == damaged);
        fs::write(&path, &before[&path]).unwrap();
    }
    assert_eq!(place.report("run")["status"], "finished");
}

#[test]
fn a_refused_run_leaves_no_folder() {
    let place = Place::new();
    for more in [&["--set", "parallel.memory=1000"][..], &["--trace", "nowhere/trace.json"], &["--resume"]] {
        place.refuses_to_train(more);
        assert!(!place.path("run").exists(), "{more:?}");
    }
}

#[test]
fn a_run_that_fails_in_its_first_epoch_gives_the_folder_back_to_the_one_before() {
    let place = Place::trained();
    fs::write(place.path("run/notes.txt"), "mine").unwrap();
    let before = place.files("run");
    let said = place.refuses_to_train(&["--force", "--set", "train.lr=1e30"]);
    assert!(said.contains("replaces the run in run: report.json, spec.toml, best.safetensors"), "{said}");
    assert!(said.contains("the run that was in run before is there again"), "{said}");
    assert!(place.files("run") == before);
    place.train(&["--force", "--set", "seed=4"]);
    assert_eq!(fs::read_to_string(place.path("run/notes.txt")).unwrap(), "mine");
    assert!(!place.path("run/replaced").exists() && !place.path("run/lock").exists());
    assert_eq!(place.report("run")["seed"], 4);
}

#[cfg(unix)]
#[test]
fn a_run_before_comes_back_although_the_new_one_was_killed_in_its_first_epoch() {
    let place = Place::trained();
    let before = place.files("run");
    let mut child = place.start(&["--force", "--set", "eval.negatives=100000"]);
    while !(place.path("run/replaced/report.json").exists() && place.path("run/report.json").exists()) {
        assert!(child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Perhaps it was through its first epoch already.
    if place.path("run/replaced/report.json").exists() {
        place.refuses_to_train(&["--force", "--set", "train.lr=1e30"]);
        assert!(place.files("run") == before);
    }
}

#[test]
fn a_run_that_fails_says_so_in_its_report() {
    let place = Place::new();
    let said = place.refuses_to_train(&["--set", "train.lr=1e30"]);
    let report = place.report("run");
    assert_eq!(report["status"], "diverged");
    assert!(said.contains(report["error"].as_str().unwrap()), "{said}");
}

#[cfg(unix)]
#[test]
fn a_folder_belongs_to_one_run_at_a_time() {
    let place = Place::trained();
    let mut child = place.start(&["--force"]);
    wait_for_line(&mut child, "epoch ");
    for more in [&["--force"][..], &["--resume"], &[]] {
        let said = place.refuses_to_train(more);
        let owner = format!("process {} on ", child.id());
        assert!(said.contains("run is in use") && said.contains(&owner), "{said}");
    }
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    // A lock of one that is dead is none.
    place.train(&["--force"]);
    assert_eq!(place.report("run")["status"], "finished");
}

#[test]
fn a_run_trains_longer_on_other_threads_to_the_bits_of_one_that_was_long_from_the_start() {
    let place = Place::new();
    place.train(&[]);
    place.train(&["--resume", "--set", "train.epochs=4", "--set", "threads=2"]);
    succeeds(place.0.path(), &["train", "run.toml", "--out", "long", "--set", "train.epochs=4"]);
    let (resumed, long) = (place.report("run"), place.report("long"));
    for field in ["weights_sha256", "history_sha256", "best_epoch", "steps"] {
        assert_eq!(resumed[field], long[field], "{field}");
    }
    assert_eq!(resumed["test"]["mrr"], long["test"]["mrr"]);
    assert_eq!(resumed["epochs"].as_array().unwrap().len(), 4);
    // What is there is now a run of four epochs.
    succeeds(place.0.path(), &["eval", "run"]);
}

#[test]
fn a_schedule_makes_a_longer_run_another_one() {
    let place = Place::new();
    place.train(&["--set", "train.schedule=cosine"]);
    let before = place.files("run");
    let longer = ["--resume", "--set", "train.schedule=cosine", "--set", "train.epochs=4"];
    let said = place.refuses_to_train(&longer);
    assert!(
        said.contains("train.epochs is 4 and was 2") && said.contains("cosine") && said.contains("--out"),
        "{said}"
    );
    assert!(place.files("run") == before);
}

#[test]
fn a_run_without_a_checkpoint_says_that_it_starts_from_the_beginning() {
    let place = Place::trained();
    fs::remove_file(place.path("run/checkpoint.safetensors")).unwrap();
    let output = tempograph(place.0.path(), &["train", "run.toml", "--out", "run", "--resume"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("starts from the beginning"), "{said}");
}

#[cfg(unix)]
#[test]
fn the_command_that_goes_on_is_quoted_for_a_shell() {
    let place = Place::new();
    let program = Path::new(env!("CARGO_BIN_EXE_tempograph"));
    let mut child = Command::new(program)
        .args(["train", "run.toml", "--out", "a run", "--set", "train.epochs=3000"])
        .args(["--set", r#"eval.rules=["random", "historical"]"#])
        .current_dir(place.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, "epoch ");
    let stopped = |child: &mut Child| {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        said.split('`').nth(1).unwrap().to_string()
    };
    let command = stopped(&mut child);
    assert!(command.contains(r#"--set 'eval.rules=["random", "historical"]' --out 'a run' --resume"#), "{command}");
    let pasted = command.replacen("tempograph", program.to_str().unwrap(), 1);
    let mut again = Command::new("sh")
        .args(["-c", &format!("exec {pasted}")])
        .current_dir(place.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut again, "epoch ");
    assert_eq!(stopped(&mut again), command);
}

#[test]
fn a_run_is_evaluated_and_exported_on_its_own_data_only() {
    let place = Place::trained();
    for other in ["b.csv", "short.csv"] {
        place.prepare(other, "set");
        for args in [&["eval", "run"][..], &["eval", "run", "--split", "val"], &["export", "run", "--out", "artifact"]]
        {
            let said = place.refuses(args);
            assert!(said.contains("run") && said.contains("data.path"), "{args:?}: {said}");
        }
        assert!(!place.path("artifact").exists());
    }
    place.prepare("a.csv", "set");
    place.prepare("a.csv", "moved");
    succeeds(place.0.path(), &["eval", "run", "--set", "data.path=moved"]);
    place.prepare("b.csv", "other");
    place.refuses(&["eval", "run", "--set", "data.path=other"]);
}

#[test]
fn eval_takes_its_own_settings_and_refuses_those_of_the_model_and_its_past() {
    let place = Place::trained();
    for set in [
        "eval.negatives=7",
        "eval.seed=5",
        "eval.floors=false",
        "eval.val_every=2",
        r#"eval.rules=["historical", "inductive"]"#,
        "threads=2",
        "train.lr=1e-2",
    ] {
        succeeds(place.0.path(), &["eval", "run", "--set", set]);
    }
    for set in [
        "model.neighbours=3",
        "model.history=\"ordered\"",
        "train.lr=1",
        "train.batch=10",
        "data.val=0.3",
        "data.test=0.05",
        "data.hold_out=0.3",
        "data.edge_features=\"none\"",
        "seed=4",
        "parallel.minibatch=2",
    ] {
        let key = set.split('=').next().unwrap();
        let said = place.refuses(&["eval", "run", "--split", "val", "--set", set]);
        assert!(said.contains(key), "{set}: {said}");
    }
}

#[test]
fn one_flipped_byte_is_found_by_every_command_that_reads_it() {
    let place = Place::trained();
    for (file, commands) in [
        (
            "set/columns.safetensors",
            &["train run.toml --out new", "eval run", "export run --out a", "plan run.toml"][..],
        ),
        ("run/best.safetensors", &["eval run", "export run --out a"]),
        ("run/checkpoint.safetensors", &["train run.toml --out run --resume"]),
    ] {
        let whole = fs::read(place.path(file)).unwrap();
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for at in [header, header + (whole.len() - header) / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(place.path(file), bytes).unwrap();
            for command in commands {
                let said = place.refuses(&command.split(' ').collect::<Vec<_>>());
                assert!(said.contains("SHA-256") || said.contains("columns.safetensors"), "{command}: {said}");
            }
        }
        fs::write(place.path(file), whole).unwrap();
    }
    assert!(!place.path("new").exists());
    let sources = &place.report("run")["data"]["sources"];
    assert_eq!(sources["data.path"], place.report("run")["data"]["checksum"]);
}

#[test]
fn files_of_others_stay_where_an_artifact_is_replaced() {
    let place = Place::trained();
    fs::write(place.path("run/artifact/static.safetensors"), "mine").unwrap();
    succeeds(place.0.path(), &["export", "run", "--out", "run/artifact", "--force", "--quick"]);
    assert_eq!(fs::read_to_string(place.path("run/artifact/static.safetensors")).unwrap(), "mine");
    place.train(&["--force"]);
    assert_eq!(fs::read_to_string(place.path("run/artifact/static.safetensors")).unwrap(), "mine");
}

#[cfg(unix)]
#[test]
fn a_reader_that_ends_is_an_end_and_no_error() {
    let place = Place::trained();
    for args in [
        &["devices"][..],
        &["devices", "--json"],
        &["plan", "run.toml"],
        &["plan", "run.toml", "--json"],
        &["eval", "run"],
        &["eval", "run", "--json"],
        &["export", "run", "--out", "artifact", "--force"],
        &["models"],
        &["fetch", "--list"],
        &["completions", "bash"],
        &["new", "-"],
        &["train", "run.toml", "--out", "run", "--force"],
        &["train", "run.toml", "--out", "run", "--force", "--json"],
        &["bench", "run.toml", "--once", "--steps", "2"],
    ] {
        // The reader's end is closed before the program writes.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
        command.args(args).current_dir(place.0.path()).stdout(writer.try_clone().unwrap()).stderr(Stdio::piped());
        let output: Output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        // Nor does anything need a reader of what goes wrong.
        let status = Command::new(env!("CARGO_BIN_EXE_tempograph"))
            .args(args)
            .current_dir(place.0.path())
            .stdout(Stdio::null())
            .stderr(writer)
            .status()
            .unwrap();
        assert!(status.success(), "{args:?}");
    }
}

#[test]
fn numbers_are_named_by_the_negatives_they_are_of() {
    let place = Place::trained();
    let eval = |more: &[&str]| -> Value {
        serde_json::from_str(&succeeds(place.0.path(), &[&["eval", "run", "--json"], more].concat())).unwrap()
    };
    let rules = ["--set", r#"eval.rules=["random", "historical"]"#];
    let found = eval(&rules);
    let floors: Vec<(&str, &str)> = found["floors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|floor| (floor["name"].as_str().unwrap(), floor["negatives"].as_str().unwrap()))
        .collect();
    assert_eq!(floors.len(), 6, "three baselines for each rule: {floors:?}");
    assert!(floors.contains(&("last-10", "historical")) && floors.contains(&("last-10", "random")), "{floors:?}");
    // Five destinations: four others, and drawn five times.
    let random = &found["by_rule"]["random"];
    assert!(random["hits10"].is_null() && random["undefined"]["hits10"].as_str().unwrap().contains("different"));
    assert!(random["negatives"]["fewest_distinct"].as_u64().unwrap() <= 4);
    let of_rule = found["by_rule"]["historical"]["negatives"]["of_rule"].as_f64().unwrap();
    assert!(of_rule > 0.0 && of_rule < 1.0, "{of_rule}");
    let said = succeeds(place.0.path(), &[&["eval", "run"], &rules[..]].concat());
    for part in ["last-10 (historical)", "% are historical", "no hits10 (random)", "MRR (random) is among few"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn negatives_of_a_file_are_called_by_the_file() {
    use tempograph_framework::{EventId, FixedNegatives, NodeId};
    let place = Place::new();
    let set = tempograph_framework::Dataset::open(place.path("set")).unwrap();
    // Destinations are the last five of twelve nodes; an event's own is none of its negatives.
    let own = set.log.dst();
    let others = |event: usize| (7..12).map(NodeId).filter(move |&node| node != own[event]).take(2);
    for (name, first) in [("val.safetensors", 280), ("test.safetensors", 340)] {
        let nodes = (first..first + 60).flat_map(&others).collect();
        let table = FixedNegatives::new(EventId(first as u64), nodes, (0..=60).map(|event| 2 * event).collect());
        table.unwrap().write(&place.path(name)).unwrap();
    }
    let said = place.train(&["--set", r#"data.negatives=["val.safetensors", "test.safetensors"]"#]);
    assert!(said.contains("(fixed test.safetensors)") && !said.contains("(random)"), "{said}");
    let report = place.report("run");
    let names: Vec<&String> = report["test_by_rule"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["fixed test.safetensors"]);
    assert!(report["data"]["sources"]["data.negatives[1]"].is_string());
}

#[test]
fn negatives_that_are_true_at_that_time_are_counted() {
    let place = Place::new();
    // Six of twelve destinations of one source in a second.
    let rows = |second: usize| (0..6).map(move |i| format!("1,{},{second},0\n", 100 + (second * 5 + 2 * i) % 12));
    let text: String = std::iter::once("src,dst,ts,label\n".into()).chain((0..100).flat_map(rows)).collect();
    fs::write(place.path("ties.csv"), text).unwrap();
    place.prepare("ties.csv", "set");
    place.train(&["--set", "eval.negatives=40"]);
    let shares = place.report("run")["test"]["negatives"].clone();
    let found = shares["true_at_time"].as_f64().unwrap();
    assert!((found - 5.0 / 11.0).abs() < 0.05, "five of the eleven other destinations: {shares}");
}

#[test]
fn a_validation_of_one_event_makes_no_epoch_the_best() {
    let place = Place::new();
    fs::write(place.path("few.csv"), csv(20, 1)).unwrap();
    place.prepare("few.csv", "set");
    let said = place.refuses_to_train(&["--set", "data.val=0.05"]);
    assert!(said.contains("one event") && said.contains("data.val = 0.05"), "{said}");
    assert!(!place.path("run").exists());
}

#[test]
fn a_set_that_is_cut_short_while_it_is_trained_on_is_an_error_in_words() {
    let place = Place::new();
    let mut child = place.start(&[]);
    wait_for_line(&mut child, "epoch ");
    let file = fs::File::options().write(true).open(place.path("set/columns.safetensors")).unwrap();
    file.set_len(100).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Nothing can be known of a random stream, not even where each event is written twice: the second of the two sees
/// neither the first nor the memory that the first has changed.
#[test]
fn of_a_random_stream_written_twice_nothing_is_known_with_any_batch() {
    let place = Place::new();
    let mut state = 7u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let row = |at: usize| {
        let row = format!("{},{},{at},0\n", 100 + below(30), 900 + below(30));
        [row.clone(), row]
    };
    let text: String = std::iter::once("src,dst,ts,label\n".into()).chain((0..2000).flat_map(row)).collect();
    fs::write(place.path("twice.csv"), text).unwrap();
    place.prepare("twice.csv", "set");
    for batch in [1, 3, 200] {
        place.train(&[
            "--force",
            "--set",
            &format!("train.batch={batch}"),
            "--set",
            "eval.negatives=20",
            "--set",
            "train.lr=1e-3",
        ]);
        let test = place.report("run")["test"].clone();
        let ap = test["ap"].as_f64().unwrap();
        assert!((ap - 0.5).abs() < 0.07, "batch {batch}: AP {ap}");
    }
}

#[test]
fn a_spec_that_was_edited_after_the_run_and_weights_of_another_run_are_refused() {
    let place = Place::trained();
    succeeds(place.0.path(), &["train", "run.toml", "--out", "other", "--set", "seed=9", "--set", "name=other"]);
    let spec = fs::read_to_string(place.path("run/spec.toml")).unwrap();
    for (was, is) in [("neighbours = 4", "neighbours = 3"), ("batch = 20", "batch = 40"), ("lr = 0.01", "lr = 0.02")] {
        assert!(spec.contains(was), "{spec}");
        fs::write(place.path("run/spec.toml"), spec.replace(was, is)).unwrap();
        for args in [&["eval", "run"][..], &["export", "run", "--out", "exported", "--quick"]] {
            let said = place.refuses(args);
            assert!(said.contains("spec.toml (model, seed, train, parallel) had the checksum"), "{args:?}: {said}");
        }
    }
    fs::write(place.path("run/spec.toml"), &spec).unwrap();
    succeeds(place.0.path(), &["eval", "run"]);
    fs::copy(place.path("other/best.safetensors"), place.path("run/best.safetensors")).unwrap();
    assert!(place.refuses(&["eval", "run"]).contains("spec.toml (model, seed, train, parallel) had the checksum"));
    fs::copy(place.path("other/checkpoint.safetensors"), place.path("run/checkpoint.safetensors")).unwrap();
    let said = place.refuses_to_train(&["--resume", "--set", "train.epochs=3"]);
    assert!(said.contains("the checkpoint is of another run"), "{said}");
    assert!(!place.path("exported").exists());
}

#[test]
fn a_file_that_a_command_has_not_written_is_not_overwritten() {
    let place = Place::trained();
    let before = fs::read(place.path("a.csv")).unwrap();
    for args in [
        &["train", "run.toml", "--out", "traced", "--trace", "a.csv"][..],
        &["eval", "run", "--scores", "a.csv"],
        &["eval", "run", "--scores", "run/best.safetensors"],
        &["report", "run", "--out", "a.csv"],
        &["pretrain", "run.toml", "--out", "a.csv", "--force"],
        &["eval", "run", "--scores", "run"],
        &["eval", "run", "--scores", "nowhere/scores.csv"],
    ] {
        place.refuses(args);
    }
    assert!(fs::read(place.path("a.csv")).unwrap() == before && !place.path("traced").exists());
    for _ in 0..2 {
        let at = place.0.path();
        succeeds(at, &["train", "run.toml", "--out", "traced", "--trace", "trace.json", "--force"]);
        succeeds(at, &["eval", "run", "--scores", "scores.csv"]);
        succeeds(at, &["eval", "run", "--scores", "scores.safetensors"]);
        succeeds(at, &["report", "run"]);
        succeeds(at, &["pretrain", "run.toml", "--set", "pretrain.epochs=1", "--force"]);
    }
}

#[test]
fn sizes_that_no_machine_has_are_refused_before_anything_is_made_of_them() {
    let place = Place::new();
    let keys = ["model.memory", "model.time", "model.width", "model.neighbours", "model.heads", "model.layers"];
    for key in keys {
        for size in ["99999999999", "9223372036854775807"] {
            let said = place.refuses_to_train(&["--set", &format!("{key}={size}")]);
            assert!(said.contains(key), "{said}");
        }
    }
    let twice = place.refuses_to_train(&["--set", "eval.rules=[\"random\", \"random\"]"]);
    assert!(twice.contains("eval.rules[1]"), "{twice}");
    assert!(!place.path("run").exists());
}
