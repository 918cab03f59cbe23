//! A folder with small data, where the program is kept to a level of the CPU.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tempograph_framework::{Store, sha256_hex};

use super::cases::{Case, Way};

/// What every run has unless its case says otherwise. Widths are no whole vectors of either level; dropout is on.
const SPEC: &str = r#"
seed = 3
threads = 1
export = false

[data]
path = "prepared"
node_features = false
static_memory = "vectors.safetensors"

[model]
kind = "tgn"
memory = 24
time = 10
width = 24
neighbours = 4
dropout = 0.1

[model.static]
width = 5
hide = 0.2

[pretrain]
batch = 50
epochs = 5

[train]
batch = 24
epochs = 2
lr = 1e-2
weight_decay = 0.01
clip = 1.0
warmup = 2

[eval]
negatives = 5
floors = false
"#;

const EVENTS: u64 = 240;
pub const USERS: u64 = 14;
pub const ITEMS: u64 = 10;

/// Instructions of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Baseline,
    Avx2,
    Avx512,
}

impl Level {
    /// The best there is, as the program tells.
    pub fn of_processor() -> Level {
        let output = Command::new(env!("CARGO_BIN_EXE_tempograph")).args(["devices", "--json"]).output().unwrap();
        let reported: Value = serde_json::from_slice(&output.stdout).unwrap();
        match reported["cpu"]["best_simd"].as_str().unwrap() {
            "AVX-512" => Level::Avx512,
            "AVX2" => Level::Avx2,
            _ => Level::Baseline,
        }
    }

    /// The file of its pins.
    pub fn file(self) -> &'static str {
        match self {
            Level::Baseline => unreachable!("it has no pins"),
            Level::Avx2 => "avx2.toml",
            Level::Avx512 => "avx512.toml",
        }
    }

    /// Its name for the program.
    fn asked(self) -> &'static str {
        match self {
            Level::Baseline => "baseline",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }
}

/// Fields of a pin with their values.
pub type Found = Vec<(&'static str, String)>;

/// The folder.
pub struct Place {
    folder: tempfile::TempDir,
    level: Level,
}

impl Place {
    /// With events, of which two share most times, and features of events and nodes; and static memory learned from
    /// them.
    pub fn at(level: Level) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap(), level };
        fs::write(place.path("pins.toml"), SPEC).unwrap();
        fs::write(place.path("events.csv"), csv()).unwrap();
        fs::write(place.path("node_feat.npy"), node_features()).unwrap();
        place.succeeds(&["prepare", "events.csv", "--out", "prepared"]);
        place.succeeds(&["pretrain", "pins.toml"]);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
        command.args(args).current_dir(self.folder.path()).env("TEMPOGRAPH_CPU", self.level.asked());
        command
    }

    /// Runs what must succeed; gives what it printed.
    #[track_caller]
    pub fn succeeds(&self, args: &[&str]) -> String {
        let output: Output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The vectors of static memory.
    pub fn pretrained(&self) -> String {
        let mut store = Store::read(&self.path("vectors.safetensors")).unwrap();
        bits(&store.take::<f32>("static").unwrap().1)
    }

    /// What a run leaves that went that way.
    pub fn trained(&self, case: &Case, way: &Way) -> Found {
        let out = case.folder(way);
        let sets: Vec<&str> = case.sets.iter().chain(&way.sets).flat_map(|set| ["--set", set]).collect();
        let served = if case.served { &["--set", "export=true"][..] } else { &[] };
        let args = [&["train", "pins.toml", "--out", &out][..], &sets, served].concat();
        if way.stopped {
            self.stop_inside(&args);
            self.succeeds(&[&args[..], &["--resume"]].concat());
        } else {
            self.succeeds(&args);
        }
        facts(&self.report(&out))
    }

    fn report(&self, run: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(run).join("report.json")).unwrap()).unwrap()
    }

    /// Interrupts a run once its first epoch is complete.
    fn stop_inside(&self, args: &[&str]) {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.starts_with("epoch"))), "{args:?} has no first epoch");
        interrupt(&child);
        // Whoever writes must find a reader.
        lines.for_each(drop);
        assert_eq!(child.wait().unwrap().code(), Some(130), "an interrupted run ends cleanly");
        let at = args.iter().position(|&arg| arg == "--out").unwrap() + 1;
        assert_eq!(self.report(args[at])["status"], "stopped", "{args:?} was over before it could be stopped");
    }
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// What a report says of the bits of a run.
fn facts(report: &Value) -> Found {
    assert_eq!(report["status"], "finished");
    let epochs = report["epochs"].as_array().unwrap();
    // What means nothing is 1 of few negatives.
    let metrics = |of: &Value| ["ap", "auc", "mrr", "hits10"].map(|metric| of[metric].as_f64().unwrap_or(1.0));
    let mut examined: Vec<f64> = Vec::new();
    for epoch in epochs {
        examined.extend([epoch["train"]["loss"].as_f64().unwrap(), epoch["memory_norm"].as_f64().unwrap()]);
        examined.extend(metrics(&epoch["val"]));
    }
    examined.extend(metrics(&report["test"]));
    let hash = |name: &str| short(report[name].as_str().unwrap());
    vec![
        ("weights", hash("weights_sha256")),
        ("history", hash("history_sha256")),
        ("loss", epochs.last().unwrap()["train"]["loss"].to_string()),
        ("examined", short(&sha256_hex(examined.iter().map(|number| number.to_le_bytes())))),
    ]
}

/// The hash of numbers' bits.
pub fn bits(numbers: &[f32]) -> String {
    short(&sha256_hex(numbers.iter().map(|number| number.to_le_bytes())))
}

/// As much of a hash as a pin needs.
fn short(hash: &str) -> String {
    hash[..16].into()
}

/// The n-th of a row of numbers that look like chance.
pub fn chance(n: u64) -> u64 {
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

/// Features of an event, exact in decimals.
pub fn features(event: u64, item: u64) -> [f32; 2] {
    [item as f32 / 8.0 - 0.5, (chance(3 * event) % 9) as f32 / 4.0 - 1.0]
}

/// The time of the n-th event.
pub fn time(event: u64) -> u64 {
    event / 2 + event / 7
}

/// Who turns to what in the n-th event: users keep to few items, which change with time.
pub fn pair(event: u64) -> (u64, u64) {
    let (user, any) = (chance(3 * event + 1) % USERS, chance(3 * event + 2) % 3);
    (user, USERS + (3 * user + event / 40 + any) % ITEMS)
}

/// The last event's time.
pub fn newest() -> u64 {
    time(EVENTS - 1)
}

fn csv() -> String {
    let mut text = String::from("src,dst,ts,label,a,b\n");
    for event in 0..EVENTS {
        let ((src, dst), time) = (pair(event), time(event));
        let [a, b] = features(event, dst - USERS);
        writeln!(text, "{src},{dst},{time},0,{a},{b}").unwrap();
    }
    text
}

/// Three columns for every node, as NumPy has them.
fn node_features() -> Vec<u8> {
    let nodes = USERS + ITEMS;
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({nodes}, 3), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:<117}\n").bytes());
    bytes.extend((0..3 * nodes).flat_map(|i| ((i * 7 % 11) as f32 / 8.0 - 0.5).to_le_bytes()));
    bytes
}

/// Does `work` for each, as many at a time as there are cores. Results are in the order of what they are of.
pub fn in_turn<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((at, one)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, all.get(at)?)))
                {
                    let result = work(one);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
