//! Checks the crates' manifests: which crate may depend on which, and where outside crates may be used.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates that each crate may depend on: `kernels <- framework <- { models, trainers, serving } <- experiments` and
/// `serving -> models`.
const ROOMS: [(&str, &[&str]); 7] = [
    ("kernels", &[]),
    ("framework", &["kernels"]),
    ("models", &["kernels", "framework"]),
    ("trainers", &["kernels", "framework"]),
    ("serving", &["kernels", "framework", "models"]),
    ("experiments", &["kernels", "framework", "models", "trainers", "serving"]),
    ("tests", &["kernels", "framework", "models", "trainers", "serving"]),
];

/// Outside crates that only some crates may depend on.
const DOORS: [(&str, &[&str]); 28] = [
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
    ("tensorboard-proto", &["trainers"]),
    ("protobuf", &["trainers"]),
    ("safetensors", &["framework"]),
    ("memmap2", &["framework"]),
    ("parquet", &["framework"]),
    ("arrow-ipc", &["framework"]),
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

/// Outside crates that only one folder or file may name: the logs of record, behind one trait.
const NAMED_IN: [(&str, &str); 2] = [("fjall", "serving/src/log/"), ("rdkafka", "serving/src/log/kafka.rs")];

/// Files that may be at the top of the repository: documents, licences and settings of tools.
const PAPERS: [&str; 13] = [
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
    ".dockerignore",
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
    // Every crate may depend only on crates before it in the list.
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
fn gpus_are_features_that_are_off_by_default() {
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
    // What git tracks, if git is present: a working tree also holds builds and runs.
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

/// The folders of each crate from the lowest layer up. A file may name its own folder and folders before it, and no
/// other. `.` is the files next to `lib.rs`.
const FLOORS: [(&str, &[&str]); 6] = [
    (
        "kernels",
        &[
            "plan",
            "cpu/vector",
            "cpu/product",
            ".",
            "cpu/attention",
            "cpu/memory",
            "cpu",
            "device",
            "cube/launch",
            "cube/array",
            "tensor",
            "cube/kernel",
            "cube/history",
            "cube/stage",
            "cube",
        ],
    ),
    (
        "framework",
        &[
            ".",
            "storage",
            "log",
            "settings",
            "dataset",
            "dataset/prepare/common",
            "dataset/prepare/formats",
            "dataset/prepare/formats/arrow",
            "dataset/prepare/formats/tgb",
            "dataset/prepare",
            "history/view",
            "history/graph",
            "history/memory",
            "history",
            "history/change",
            "history/persist",
            "history/device",
            "model",
            "model/executor",
            "metrics",
            "negatives/pickle",
            "negatives",
        ],
    ),
    (
        "models",
        &[
            ".",
            "settings",
            "operation",
            "ops/tables",
            "ops/tables/centres",
            "ops/tables/rows",
            "ops/pairs/common",
            "ops/pairs/decoder",
            "ops/pairs/head",
            "ops/pairs",
            "ops/layers/attention",
            "ops/layers/mixer",
            "ops/layers/projection",
            "ops/layers",
            "ops/memory",
            "ops/mailbox",
            "ops",
            "static_memory",
            "program",
            "executor",
            "executor/device",
            "kinds",
            "registry",
        ],
    ),
    (
        "trainers",
        &[
            "transport",
            "transport/over/tcp",
            "transport/over",
            "plan",
            ".",
            "setup",
            "step",
            "parallel",
            "parallel/lanes",
            "run",
        ],
    ),
    (
        "serving",
        &[
            "request",
            "artifact",
            "engine/state",
            "engine",
            "engine/answer",
            "log",
            "service/ingest",
            "service",
            "service/erase",
            "service/run",
            "schedule/policy",
            "schedule/simulate",
            "schedule",
            "access",
            "observe/metrics",
            "observe",
            "interface/listen",
            "interface/page",
            "interface",
            "interface/oip",
            "interface/grpc",
            "interface/http",
            ".",
        ],
    ),
    (
        "experiments",
        &[
            "terminal",
            "setup",
            "bench/numbers",
            "bench",
            "fetch",
            "load",
            "command/pretrain",
            "command/export",
            "command/report",
            "command/train",
            "command",
        ],
    ),
];

/// The largest number of files and folders in one folder, without tests and the crate's own `lib.rs` and `main.rs`.
const SIBLINGS: usize = 12;

/// The sources of one crate, and what its paths mean.
struct Sources {
    src: PathBuf,
    /// Names that `lib.rs` re-exports: the path behind `crate::`.
    handed_on: BTreeMap<String, Vec<String>>,
}

impl Sources {
    fn of(room: &str) -> Sources {
        let src = root().join(room).join("src");
        let text = code(&std::fs::read_to_string(src.join("lib.rs")).unwrap());
        let mut handed_on = BTreeMap::new();
        for part in text.split("pub use ").skip(1) {
            let tree = part.split(';').next().unwrap();
            for path in paths(tree) {
                handed_on.insert(path.last().unwrap().clone(), path);
            }
        }
        Sources { src, handed_on }
    }

    /// The folder that `path`, named in a file of `folder`, leads to. None for a path outside the crate.
    fn folder(&self, file: &Path, path: &[String]) -> Option<String> {
        let own = file.parent().unwrap();
        let mut here = match path[0].as_str() {
            "crate" => PathBuf::new(),
            "self" | "super" if file.ends_with("mod.rs") => own.to_path_buf(),
            // The module of a file is one level deeper than its folder.
            "self" | "super" => own.join(file.file_stem().unwrap()),
            _ => return None,
        };
        let mut rest = path;
        while let Some(first) = rest.first().filter(|first| ["crate", "self", "super"].contains(&first.as_str())) {
            if first == "super" {
                here.pop();
            }
            rest = &rest[1..];
        }
        if here.as_os_str().is_empty() {
            let known = rest.first().and_then(|name| self.handed_on.get(name));
            rest = known.filter(|_| !self.src.join(&rest[0]).exists()).map_or(rest, |path| path);
        }
        for name in rest {
            if self.src.join(&here).join(name).is_dir() {
                here.push(name);
            } else {
                break;
            }
        }
        // A path that ends at a file's module belongs to its folder.
        while !self.src.join(&here).is_dir() {
            here.pop();
        }
        Some(if here.as_os_str().is_empty() { ".".into() } else { here.to_str().unwrap().into() })
    }
}

/// `text` without comments, strings and what is only compiled for tests.
fn code(text: &str) -> String {
    let text = text.split("mod tests {").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The paths of a use tree, segment by segment.
fn paths(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        return vec![path.split("::").map(|part| part.trim().to_string()).collect()];
    };
    let inside = &inside[..inside.rfind('}').unwrap_or(inside.len())];
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    let begins: Vec<String> =
        before.split("::").map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect();
    let ends = parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| paths(part));
    ends.map(|end| begins.iter().cloned().chain(end.into_iter().filter(|part| part != "self")).collect()).collect()
}

/// The paths of a file that begin in its own crate.
fn own_paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &text[at..];
            let in_use = text[..at].rsplit(['\n', ';']).next().is_some_and(|line| line.contains("use "));
            let end = match in_use {
                true => rest.find(';'),
                false => rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')),
            };
            found.extend(paths(&rest[..end.unwrap_or(rest.len())]));
        }
    }
    found
}

#[test]
fn arrows_between_the_folders_of_a_crate_run_one_way() {
    for (room, floors) in FLOORS {
        let sources = Sources::of(room);
        let (mut arrows, mut wrong) = (0, BTreeSet::new());
        let mut seen = BTreeSet::from([".".to_string()]);
        for path in self::sources(&sources.src) {
            let file = path.strip_prefix(&sources.src).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap();
            let tests = file.iter().any(|part| part == "tests") || name.ends_with("tests");
            if tests || ["lib", "main"].contains(&name) {
                continue;
            }
            let own = file.parent().and_then(Path::to_str).filter(|own| !own.is_empty()).unwrap_or(".");
            let floor = |folder: &str| {
                let floor = floors.iter().position(|known| *known == folder);
                floor.unwrap_or_else(|| panic!("{room}/src/{folder} stands in no order: add it to FLOORS"))
            };
            seen.insert(own.to_string());
            for target in own_paths(&code(&std::fs::read_to_string(&path).unwrap())) {
                let Some(folder) = sources.folder(file, &target).filter(|folder| folder != own) else { continue };
                // A folder that holds only folders names nothing.
                if !floors.contains(&folder.as_str()) && target.last().is_some_and(|last| last == "mod") {
                    continue;
                }
                arrows += 1;
                if floor(&folder) > floor(own) {
                    wrong.insert(format!(
                        "{room}/src/{}: {} is in {folder}, which stands above {own}",
                        file.display(),
                        target.join("::")
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
        assert!(arrows > 20, "{arrows} arrows in {room}: are paths read at all?");
        let gone: Vec<&&str> = floors.iter().filter(|floor| !seen.contains(**floor)).collect();
        assert!(gone.is_empty(), "{room} has no files in {gone:?}; this list is out of date");
    }
}

#[test]
fn no_folder_holds_more_than_a_dozen() {
    for room in FLOORS.iter().map(|(room, _)| *room) {
        let src = root().join(room).join("src");
        let mut folders = vec![src.clone()];
        while let Some(folder) = folders.pop() {
            let entries: Vec<PathBuf> =
                std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            folders.extend(entries.iter().filter(|path| path.is_dir()).cloned());
            let counted = entries.iter().filter(|path| {
                let name = path.file_stem().unwrap().to_str().unwrap();
                let code = path.is_dir() || path.extension().is_some_and(|extension| extension == "rs");
                code && !name.ends_with("tests") && !["lib", "main", "mod"].contains(&name)
            });
            let siblings = counted.count();
            let place = folder.strip_prefix(root()).unwrap().display();
            assert!(siblings <= SIBLINGS || folder.ends_with("tests"), "{place} holds {siblings} files and folders");
        }
    }
}
