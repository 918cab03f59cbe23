//! A model from outside the workspace: `models/examples/own` is built as a stranger would, trained, exported and
//! served, and the book's pages on models, operations and readers show the very lines of the examples.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::Server;
use serde_json::{Value, json};
use tempograph_framework::Store;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn example() -> PathBuf {
    root().join("models/examples/own")
}

/// Builds the example beside the binary of this workspace, with its features: what both are made of is compiled once.
/// Nothing where cargo cannot build.
fn built() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_tempograph")).parent().unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--manifest-path"]).arg(example().join("Cargo.toml"));
    let ours = [
        ("shared", true),
        ("wgpu", cfg!(feature = "wgpu")),
        ("otel", cfg!(feature = "otel")),
        ("schemas", cfg!(feature = "schemas")),
        ("kafka", cfg!(feature = "kafka")),
        ("mpi", cfg!(feature = "mpi")),
    ];
    ours.iter().filter(|(_, on)| *on).for_each(|(feature, _)| _ = cargo.args(["--features", feature]));
    if beside.ends_with("release") {
        cargo.arg("--release");
    }
    // What cargo tells a test is about the test's own package.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PKG_")) {
        cargo.env_remove(name);
    }
    cargo.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH");
    let output = cargo.env("CARGO_TARGET_DIR", beside.parent().unwrap()).output();
    let output = output.map_err(|error| eprintln!("skipped: cargo does not start: {error}")).ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success()
        && ["failed to download", "failed to get", "Could not resolve"].iter().any(|no| said.contains(no))
    {
        eprintln!("skipped: cargo cannot have the libraries of the example: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    Some(beside.join(format!("own{}", std::env::consts::EXE_SUFFIX)))
}

/// Runs what must succeed; gives what it printed.
#[track_caller]
fn succeeds(own: &Path, folder: &Path, args: &[&str]) -> String {
    let output = Command::new(own).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn report(folder: &Path, run: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join("runs").join(run).join("report.json")).unwrap()).unwrap()
}

fn post(server: &Server, route: &str, body: &Value) -> Value {
    let url = format!("{}{route}", server.url);
    let mut response = ureq::post(url).content_type("application/json").send(body.to_string()).unwrap();
    serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
}

#[test]
fn a_model_from_outside_is_listed_trained_checked_exported_and_served() {
    let Some(own) = built() else { return };
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let run = |args: &[&str]| succeeds(&own, folder, args);

    let listed = run(&["models"]);
    assert!(listed.contains("fading") && listed.contains("tgn"), "{listed}");
    let program = run(&["models", "--program", "fading"]);
    assert!(program.contains("embedding.rate [100]") && program.contains("fading, 1 ticks count as one"), "{program}");

    run(&["new", "fading.toml", "--model", "fading"]);
    let data = format!("data.path={}", common::DATA);
    let small = [&data, "model.memory=8", "train.batch=50", "train.epochs=2", "eval.negatives=9"];
    let train = |name: &str, more: &[&str]| -> Vec<f64> {
        let named = format!("name={name}");
        let mut args = vec!["train", "fading.toml", "--set", &named];
        small.iter().chain(more).for_each(|set| args.extend(["--set", set]));
        run(&args);
        let epochs = report(folder, name)["epochs"].as_array().unwrap().clone();
        epochs.iter().map(|epoch| epoch["train"]["loss"].as_f64().unwrap()).collect()
    };
    let losses = train("slices", &["train.lr=1e-2"]);
    assert!(losses.len() == 2 && losses[1] < losses[0], "it does not learn: {losses:?}");
    // Frequencies of the time encoding multiply ticks: steps as large as above make much of how a sum is rounded.
    let slowly = |name: &str, more: &str| {
        let loss = train(name, &["train.epochs=1", "train.lr=1e-5", "export=false", more])[0];
        let mut weights = Store::read(&folder.join("runs").join(name).join("best.safetensors")).unwrap();
        (loss, weights.take::<f32>("model.embedding.rate").unwrap().1)
    };
    let (fast, slow) = (slowly("slowly", "executor=auto"), slowly("tape", "executor=burn"));
    assert!((fast.0 - slow.0).abs() < 1e-6, "{} on slices, {} on the tape", fast.0, slow.0);
    // A gradient of the other sign moves a rate by a ten-thousandth the other way.
    let apart = fast.1.iter().zip(&slow.1).map(|(fast, slow)| (fast - slow).abs()).fold(0.0, f32::max);
    assert!(fast.1.len() == 8 && apart < 1e-5, "{:?} on slices, {:?} on the tape", fast.1, slow.1);
    let resolved = fs::read_to_string(folder.join("runs/slices/spec.toml")).unwrap();
    assert!(resolved.contains("unit = "), "the unit comes from the data: {resolved}");

    run(&["export", "runs/slices", "--out", "exported", "--quick"]);
    let server = Server::of_program(&own, folder, "exported", &[], Stdio::inherit());
    let mut model = ureq::get(format!("{}/v1/model", server.url)).call().unwrap();
    let model: Value = serde_json::from_str(&model.body_mut().read_to_string().unwrap()).unwrap();
    let newest = model["newest"].as_u64().unwrap();
    let pair = json!({ "queries": [{ "src": 3, "dst": 4, "time": newest + 2000 }] });
    let before = post(&server, "/v1/score", &pair);
    let events = json!({ "events": [{ "src": 3, "dst": 4, "time": newest + 1000 }], "ack": "applied" });
    assert_eq!(post(&server, "/v1/events", &events)["accepted"], 1);
    let after = post(&server, "/v1/score", &pair);
    assert!(
        after["scores"][0].as_f64().unwrap().is_finite() && after["scores"] != before["scores"],
        "{before} {after}"
    );
}

/// The code of a guide's blocks in a language.
fn blocks<'a>(guide: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    guide.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_book_shows_the_examples_own_lines() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    let own = "models/examples/own/src/main.rs";
    for (page, language, source) in [
        ("model", "rust", own),
        ("model", "toml", "models/examples/own/Cargo.toml"),
        ("operation", "rust", own),
        ("reader", "rust", "framework/examples/read_messages.rs"),
        ("reader", "python", "framework/examples/messages_to_csv.py"),
    ] {
        let page = read(&format!("docs/src/extend/{page}.md"));
        let (shown, whole) = (blocks(&page, language), bare(&read(source)));
        assert!(!shown.is_empty(), "the page shows nothing of {source}");
        for block in shown {
            assert!(whole.contains(&bare(block)), "{source} has no such lines:\n{block}");
        }
    }
    let lines = read(own).lines().count();
    assert!(lines < 100, "the example has {lines} lines");
}

#[test]
fn the_example_is_built_as_the_workspace_is() {
    let read = |path: PathBuf| -> toml::Table { toml::from_str(&fs::read_to_string(path).unwrap()).unwrap() };
    let (workspace, example) = (root(), example());
    let profiles = [&workspace, &example].map(|folder| {
        let mut profile = read(folder.join("Cargo.toml"))["profile"].clone();
        // Crates of ours are compiled for each of the two anyway: each depends on them from a folder of its own.
        let packages = profile["dev"]["package"].as_table_mut().unwrap();
        packages.retain(|name, _| !name.starts_with("tempograph"));
        profile
    });
    assert_eq!(profiles[0], profiles[1], "copy the profiles of Cargo.toml to the example's");
    let [ours, its] = [&workspace, &example].map(|folder| read(folder.join("Cargo.lock"))["package"].clone());
    let names = |packages: &toml::Value| -> Vec<(String, String)> {
        let packages = packages.as_array().unwrap().iter();
        packages
            .map(|package| ["name", "version"].map(|key| package[key].as_str().unwrap().to_string()).into())
            .collect()
    };
    let ours = names(&ours);
    for package in names(&its).into_iter().filter(|(name, _)| name != "own") {
        assert!(ours.contains(&package), "{package:?} is not in Cargo.lock; copy it over the example's");
    }
}
