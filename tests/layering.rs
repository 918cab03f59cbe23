//! The house as its manifests say it is: which crate may know which, and where outside crates come in.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whom each crate may depend on: `kernels <- framework <- { models, trainers, serving } <- experiments` and `serving -> models`.
const ROOMS: [(&str, &[&str]); 7] = [
    ("kernels", &[]),
    ("framework", &["kernels"]),
    ("models", &["kernels", "framework"]),
    ("trainers", &["kernels", "framework"]),
    ("serving", &["kernels", "framework", "models"]),
    ("experiments", &["kernels", "framework", "models", "trainers", "serving"]),
    ("tests", &["kernels", "framework", "models", "trainers", "serving"]),
];

/// Outside crates that come in through some rooms only.
const DOORS: [(&str, &[&str]); 25] = [
    ("burn-cubecl", &["kernels"]),
    ("burn-cuda", &["kernels"]),
    ("burn-flex", &["kernels"]),
    ("burn-wgpu", &["kernels"]),
    ("cubecl", &["kernels"]),
    ("cubek-matmul", &["kernels"]),
    ("cubek-std", &["kernels"]),
    ("cudarc", &["kernels"]),
    ("gemm-common", &["kernels"]),
    ("gemm-f32", &["kernels"]),
    ("mpi", &["trainers"]),
    ("tensorboard-rs", &["trainers"]),
    ("safetensors", &["framework"]),
    ("memmap2", &["framework"]),
    ("parquet", &["framework"]),
    ("axum", &["serving"]),
    ("fjall", &["serving"]),
    ("hyper-util", &["serving"]),
    ("rdkafka", &["serving"]),
    ("tokio-rustls", &["serving"]),
    ("tonic", &["serving"]),
    ("clap", &["experiments"]),
    ("indicatif", &["experiments"]),
    ("ureq", &["experiments"]),
    ("anyhow", &["experiments"]),
];

/// Outside crates that are named in one folder or file only: the logs of record, behind one trait.
const NAMED_IN: [(&str, &str); 2] = [("fjall", "serving/src/log/"), ("rdkafka", "serving/src/log/kafka.rs")];

/// What lies at the top of the repository; documents, licences and settings of tools may be any of these.
const PAPERS: [&str; 12] = [
    "Cargo.lock",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "rustfmt.toml",
    "clippy.toml",
    "deny.toml",
    "docs",
    ".ci",
    ".gitignore",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn manifest(of: &Path) -> toml::Table {
    let path = of.join("Cargo.toml");
    toml::from_str(&std::fs::read_to_string(&path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Dependencies of a manifest by package, as their tables: `kinds` of them, those of targets included.
fn dependencies(manifest: &toml::Table, kinds: &[&str]) -> BTreeMap<String, toml::Value> {
    let targets =
        manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(|targets| targets.values());
    let places = targets.filter_map(toml::Value::as_table).chain([manifest]);
    let tables = places.flat_map(|place| kinds.iter().filter_map(|kind| place.get(*kind)?.as_table()));
    let named = tables.flat_map(|table| table.iter()).map(|(name, value)| {
        let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name);
        (package.to_string(), value.clone())
    });
    named.collect()
}

const ALL_KINDS: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];

#[test]
fn the_workspace_has_seven_rooms() {
    let workspace = manifest(&root());
    let members: BTreeSet<&str> =
        workspace["workspace"]["members"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
    assert_eq!(members, ROOMS.iter().map(|(room, _)| *room).collect());
    assert!(!workspace.contains_key("package"), "the workspace is virtual");
    for (room, _) in ROOMS {
        let name = manifest(&root().join(room))["package"]["name"].as_str().unwrap().to_string();
        assert_eq!(name, format!("tempograph-{room}"));
    }
}

#[test]
fn crates_know_only_those_below_them() {
    for (room, below) in ROOMS {
        let allowed: BTreeSet<String> = below.iter().map(|room| format!("tempograph-{room}")).collect();
        let known = dependencies(&manifest(&root().join(room)), &ALL_KINDS)
            .into_keys()
            .filter(|name| name.starts_with("tempograph"));
        let strangers: Vec<String> = known.filter(|name| !allowed.contains(name)).collect();
        assert!(strangers.is_empty(), "{room} must not depend on {strangers:?}");
    }
}

#[test]
fn rooms_and_rules_leave_no_circle() {
    // Every room may know only rooms that stand before it in the list.
    for (place, (room, below)) in ROOMS.iter().enumerate() {
        let before: Vec<&str> = ROOMS[..place].iter().map(|(room, _)| *room).collect();
        assert!(below.iter().all(|other| before.contains(other)), "{room} knows a room beside or above it");
    }
}

#[test]
fn outside_crates_come_in_through_their_own_door() {
    for (room, _) in ROOMS {
        let found = dependencies(&manifest(&root().join(room)), &["dependencies", "build-dependencies"]);
        for (outside, doors) in DOORS {
            assert!(
                !found.contains_key(outside) || doors.contains(&room),
                "{room} must not depend on {outside}; {doors:?} does"
            );
        }
    }
    for (outside, doors) in DOORS {
        let used = doors
            .iter()
            .any(|room| dependencies(&manifest(&root().join(room)), &["dependencies"]).contains_key(outside));
        assert!(used, "{outside} is used nowhere; this list is out of date");
    }
}

#[test]
fn the_crates_that_store_the_log_are_named_where_the_log_is_and_nowhere_else() {
    let mut found = BTreeSet::new();
    for (room, _) in ROOMS {
        for path in sources(&root().join(room).join("src")) {
            let place = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            for (outside, only) in NAMED_IN.into_iter().filter(|(outside, _)| text.contains(&format!("{outside}::"))) {
                assert!(place.starts_with(only), "{place} names {outside}, which is for {only}");
                found.insert(outside);
            }
        }
    }
    assert_eq!(found.len(), NAMED_IN.len(), "{found:?}: this list is out of date");
}

/// The Rust files of a folder and of all in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let rust = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn gpus_are_features_that_are_off_unless_asked_for() {
    let kernels = manifest(&root().join("kernels"));
    for outside in ["burn-cubecl", "burn-cuda", "burn-wgpu", "cubecl", "cubek-matmul", "cubek-std", "cudarc"] {
        assert_eq!(
            kernels["dependencies"][outside].get("optional").and_then(toml::Value::as_bool),
            Some(true),
            "{outside} is optional"
        );
    }
    for (room, _) in ROOMS {
        let features = manifest(&root().join(room)).get("features").cloned();
        let default = features.as_ref().and_then(|features| features.get("default")).and_then(toml::Value::as_array);
        let names: Vec<&str> = default.into_iter().flatten().filter_map(toml::Value::as_str).collect();
        let gpus = ["cube", "cuda", "wgpu"];
        assert!(
            names.iter().all(|name| !gpus.iter().any(|gpu| name.contains(gpu))),
            "{room} turns a GPU on by default"
        );
    }
}

#[test]
fn every_version_is_named_once_in_the_workspace() {
    let listed: BTreeSet<String> =
        manifest(&root())["workspace"]["dependencies"].as_table().unwrap().keys().cloned().collect();
    for (room, _) in ROOMS {
        for (name, value) in dependencies(&manifest(&root().join(room)), &ALL_KINDS) {
            let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            assert!(inherited || !listed.contains(&name), "{room} names its own version of {name}");
        }
    }
}

#[test]
fn the_top_level_holds_the_rooms_and_the_papers_and_nothing_else() {
    // What git tracks, where there is git: a working tree also holds builds and runs.
    let listed =
        Command::new("git").arg("ls-files").current_dir(root()).output().ok().filter(|output| output.status.success());
    let Some(listed) = listed.and_then(|output| String::from_utf8(output.stdout).ok()) else {
        return eprintln!("skipped: this is no git checkout");
    };
    let entries: BTreeSet<String> =
        listed.lines().filter_map(|path| path.split('/').next()).map(String::from).collect();
    let rooms: BTreeSet<String> = ROOMS.iter().map(|(room, _)| room.to_string()).chain(["Cargo.toml".into()]).collect();
    let expected: BTreeSet<String> = rooms.into_iter().chain(PAPERS.map(String::from)).collect();
    assert_eq!(entries, expected);
}
