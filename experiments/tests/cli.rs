//! The program as its users run it: a process, its files, its exit code and its messages.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const SPEC: &str = r#"
name = "tiny"
seed = 3
threads = 1

[data]
path = "synthetic:events=900,users=20,items=15"

[model]
kind = "tgn"
memory = 8
time = 8
width = 8
neighbours = 4

[train]
batch = 50
epochs = 3
lr = 1e-2

[eval]
negatives = 40
"#;

/// A folder of its own for one test, with a spec in it.
struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Workspace {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.toml"), SPEC).unwrap();
        Workspace { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
        command.args(args).current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed. Gives its output.
    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail. Gives its error message.
    #[track_caller]
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} succeeded");
        let said = stderr(&output);
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        said
    }

    fn report(&self, run: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(run).join("report.json")).unwrap()).unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A report without what depends on the clock and the machine's memory.
fn timeless(mut report: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                ["seconds", "events_per_second", "stages", "peak_memory_bytes", "private_bytes"]
                    .iter()
                    .for_each(|key| drop(fields.remove(*key)));
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut report);
    report
}

#[track_caller]
fn number(report: &Value, at: &str) -> f64 {
    report.pointer(at).and_then(Value::as_f64).unwrap_or_else(|| panic!("the report has no number at {at}"))
}

#[test]
fn training_writes_everything_measured_into_the_runs_folder() {
    let place = Workspace::new();
    let said = place.succeeds(&["train", "tiny.toml"]);
    let report = place.report("runs/tiny");
    assert_eq!(
        (number(&report, "/schema"), report["status"].as_str(), number(&report, "/seed")),
        (1.0, Some("finished"), 3.0)
    );
    assert_eq!(report["epochs"].as_array().unwrap().len(), 3);
    for epoch in 0..3 {
        for field in ["train/loss", "train/events_per_second", "train/seconds", "train/lr", "train/stages/forward"] {
            assert!(number(&report, &format!("/epochs/{epoch}/{field}")) > 0.0, "{field}");
        }
        for metric in ["ap", "auc", "mrr", "hits10"] {
            assert!((0.0..=1.0).contains(&number(&report, &format!("/epochs/{epoch}/val/{metric}"))), "{metric}");
        }
    }
    for metric in ["ap", "auc", "mrr", "hits1", "hits3", "hits10"] {
        assert!((0.0..=1.0).contains(&number(&report, &format!("/test/{metric}"))), "{metric}");
    }
    assert_eq!(report["test"], report["test_by_rule"]["random"]);
    assert!(
        number(&report, "/peak_memory_bytes") > 1e6
            && number(&report, "/seconds") > 0.0
            && number(&report, "/parameters") > 100.0
    );
    assert_eq!((number(&report, "/spec/train/batch"), number(&report, "/spec/model/neighbours")), (50.0, 4.0));
    assert_eq!(number(&report, "/spec/train/negatives"), 1.0, "defaults are filled in");
    assert_eq!((number(&report, "/data/events"), report["data"]["checksum"].as_str().unwrap().len()), (900.0, 64));
    assert!(report.as_object().unwrap().contains_key("commit"));
    let floors: Vec<&str> =
        report["floors"].as_array().unwrap().iter().map(|floor| floor["name"].as_str().unwrap()).collect();
    assert!(floors.contains(&"edgebank") && floors.contains(&"last-10") && floors.len() == 3, "{floors:?}");
    for file in ["spec.toml", "best.safetensors", "checkpoint.safetensors", "tensorboard"] {
        assert!(place.path("runs/tiny").join(file).exists(), "{file}");
    }
    assert!(said.contains("runs/tiny/report.json"), "{said}");
    let losses: Vec<f64> = (0..3).map(|epoch| number(&report, &format!("/epochs/{epoch}/train/loss"))).collect();
    assert!(losses[2] < losses[0], "{losses:?}");
}

#[test]
fn settings_lie_over_the_spec_and_json_is_all_that_is_printed() {
    let place = Workspace::new();
    let args = [
        "train",
        "tiny.toml",
        "--set",
        "train.epochs=1",
        "--set",
        "model.updater=rnn",
        "--set",
        "seed=9",
        "--out",
        "elsewhere",
        "--json",
    ];
    let printed: Value = serde_json::from_str(&place.succeeds(&args)).unwrap();
    assert_eq!(printed, place.report("elsewhere"));
    assert_eq!((number(&printed, "/seed"), number(&printed, "/spec/train/epochs")), (9.0, 1.0));
    assert_eq!(printed["spec"]["model"]["updater"], "rnn");
    assert!(!place.path("runs").exists());
    serde_json::from_str::<Value>(&place.succeeds(&["devices", "--json"])).unwrap();
}

#[test]
fn a_pipelines_stages_are_traced_and_the_staleness_it_had_is_on_the_board() {
    let place = Workspace::new();
    let ahead = ["parallel.minibatch=2", "parallel.prefetch=2", "parallel.staleness=2", "train.epochs=1"];
    let ahead: Vec<&str> = ahead.iter().flat_map(|set| ["--set", set]).collect();
    let said = place.succeeds(&[&["train", "tiny.toml", "--trace", "trace.json"], &ahead[..]].concat());
    assert!(said.contains("% beside the training"), "{said}");
    let report = place.report("runs/tiny");
    let spans: Vec<Value> = serde_json::from_slice(&fs::read(place.path("trace.json")).unwrap()).unwrap();
    for stage in ["sample", "memory", "compute", "exchange", "write back"] {
        for step in 0..report["steps"].as_u64().unwrap() {
            let of_step = |span: &&Value| {
                span["name"] == stage && span["args"]["step"] == step && span["dur"].as_f64().unwrap() > 0.0
            };
            assert!(spans.iter().any(|span| of_step(&span)), "{stage} of step {step}");
        }
    }
    let counts: Vec<f64> =
        serde_json::from_value(report["epochs"][0]["train"]["prefetch"]["staleness"].clone()).unwrap();
    assert!(counts.len() == 3 && counts[2] > counts[0], "{counts:?}");
    // A histogram has its counts one after the other, as doubles.
    let packed: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    let board: Vec<u8> = fs::read_dir(place.path("runs/tiny/tensorboard"))
        .unwrap()
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    for bytes in [b"prefetch/staleness", &packed[..]] {
        assert!(board.windows(bytes.len()).any(|window| window == bytes), "{bytes:?}");
    }
}

#[test]
fn the_same_command_gives_the_same_report() {
    let place = Workspace::new();
    place.succeeds(&["train", "tiny.toml", "--out", "a"]);
    place.succeeds(&["train", "tiny.toml", "--out", "b"]);
    assert_eq!(timeless(place.report("a")), timeless(place.report("b")));
    place.succeeds(&["train", "tiny.toml", "--out", "c", "--set", "seed=4"]);
    assert_ne!(place.report("a")["epochs"][0]["train"]["loss"], place.report("c")["epochs"][0]["train"]["loss"]);
}

#[test]
fn faults_are_reported_with_name_and_value() {
    let place = Workspace::new();
    fs::write(place.path("typo.toml"), SPEC.replace("batch", "btach")).unwrap();
    fs::write(place.path("broken.toml"), "[data\npath = 1").unwrap();
    fs::create_dir(place.path("raw")).unwrap();
    fs::write(place.path("raw/edges.csv"), "src,dst,ts,label\n0,1,0,0\n").unwrap();
    let cases: [(&[&str], &[&str]); 11] = [
        (&["train", "typo.toml"], &["typo.toml", "btach", "did you mean `batch`?"]),
        (&["train", "broken.toml"], &["broken.toml"]),
        (&["train", "nowhere.toml"], &["nowhere.toml", "No such file"]),
        (&["train", "tiny.toml", "--set", "train.epoch=1"], &["epoch", "did you mean `epochs`?"]),
        (&["train", "tiny.toml", "--set", "train.lr=-1"], &["train.lr = -1"]),
        (&["train", "tiny.toml", "--set", "lr"], &["--set lr", "key=value"]),
        (&["train", "tiny.toml", "--set", "data.path=missing"], &["missing"]),
        (&["train", "tiny.toml", "--set", "data.path=raw"], &["raw", "tempograph prepare"]),
        (&["train", "tiny.toml", "--set", "data.path=synthetic:evnts=5"], &["evnts", "events"]),
        (&["train", "tiny.toml", "--set", "device=tpu"], &["tpu", "cuda:N"]),
        (&["train", "tiny.toml", "--resume"], &["runs/tiny", "resume"]),
    ];
    for (n, (args, names)) in cases.into_iter().enumerate() {
        // Each in a run of its own: what one leaves behind must not be what the next complains of.
        let out = format!("run{n}");
        let args: Vec<&str> = if args.contains(&"--resume") {
            args.to_vec()
        } else {
            args.iter().copied().chain(["--out", &out]).collect()
        };
        let said = place.fails(&args);
        names.iter().for_each(|name| assert!(said.contains(name), "{args:?} does not name {name}: {said}"));
    }
}

#[test]
fn settings_that_make_a_run_slow_are_named_at_its_start() {
    let place = Workspace::new();
    let said = |setting: &str| stderr(&place.run(&["bench", "tiny.toml", "--once", "--steps", "2", "--set", setting]));
    let slow = said("executor=\"burn\"");
    assert!(slow.contains("tape") && slow.contains("executor = \"burn\""), "{slow}");
    for setting in ["model.message=\"mlp\"", "model.mail=\"mean\"", "model.embedding=\"sum\"", "model.layers=2"] {
        assert_eq!(said(setting), "", "{setting}");
    }
}

#[test]
fn an_existing_run_is_not_overwritten_without_force() {
    let place = Workspace::new();
    let quick = ["train", "tiny.toml", "--set", "train.epochs=1"];
    place.succeeds(&quick);
    let before = place.report("runs/tiny");
    let said = place.fails(&quick);
    assert!(said.contains("runs/tiny") && said.contains("--resume") && said.contains("--force"), "{said}");
    assert_eq!(place.report("runs/tiny"), before);
    let said = place.fails(&["train", "tiny.toml", "--set", "train.lr=2e-2", "--resume"]);
    assert!(said.contains("differs") && said.contains("train.lr is 0.02 and was 0.01"), "{said}");
    place.succeeds(&[&quick[..], &["--force"]].concat());
    assert_eq!(timeless(place.report("runs/tiny")), timeless(before));
}

/// A run long enough to be stopped inside: the epochs are short, but many.
const LONG: [&str; 6] = [
    "--set",
    "train.epochs=12",
    "--set",
    "data.path=synthetic:events=2500,users=20,items=15",
    "--set",
    "train.checkpoint_minutes=0.0005",
];

/// Starts a long run and waits until its first epoch is complete.
fn start_and_wait_for_an_epoch(place: &Workspace, out: &str) -> Child {
    let mut child = place.command(&[&["train", "tiny.toml", "--out", out], &LONG[..]].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("epoch")));
    assert!(first.is_some(), "the run ended before its first epoch was complete");
    // Reads the rest, so that the child can go on writing.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_run_that_was_interrupted_or_killed_resumes_to_the_report_of_one_that_was_not() {
    let place = Workspace::new();
    place.succeeds(&[&["train", "tiny.toml", "--out", "whole"], &LONG[..]].concat());
    let whole = timeless(place.report("whole"));

    let mut child = start_and_wait_for_an_epoch(&place, "interrupted");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130), "as a shell has it of Ctrl-C");
    let stopped = place.report("interrupted");
    assert_eq!(stopped["status"], "stopped");
    assert!((1..12).contains(&stopped["epochs"].as_array().unwrap().len()));
    place.succeeds(&[&["train", "tiny.toml", "--out", "interrupted", "--resume"], &LONG[..]].concat());
    assert_eq!(timeless(place.report("interrupted")), whole);

    let mut child = start_and_wait_for_an_epoch(&place, "killed");
    signal(&child, "-KILL");
    assert!(!child.wait().unwrap().success());
    assert_eq!(place.report("killed")["status"], "running");
    place.succeeds(&[&["train", "tiny.toml", "--out", "killed", "--resume"], &LONG[..]].concat());
    assert_eq!(timeless(place.report("killed")), whole);
}

#[cfg(unix)]
#[test]
fn a_run_that_was_killed_before_its_first_checkpoint_resumes_from_the_start() {
    let place = Workspace::new();
    place.succeeds(&["train", "tiny.toml", "--out", "whole"]);
    let mut child = place.command(&["train", "tiny.toml", "--out", "killed"]).stderr(Stdio::null()).spawn().unwrap();
    while !place.path("killed/report.json").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended without a report");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    signal(&child, "-KILL");
    child.wait().unwrap();
    place.succeeds(&["train", "tiny.toml", "--out", "killed", "--resume"]);
    assert_eq!(timeless(place.report("killed")), timeless(place.report("whole")));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_prints_its_report_where_a_program_reads() {
    let place = Workspace::new();
    let mut child = place.command(&[&["train", "tiny.toml", "--json"], &LONG[..]].concat()).spawn().unwrap();
    while !place.path("runs/tiny/checkpoint.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before its first checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "as a shell has it of SIGTERM");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["status"], "stopped");
    assert_eq!(printed, place.report("runs/tiny"));
}

/// A csv in which everyone has habits.
fn events_csv() -> String {
    let row = |i: usize| format!("{},{},{},0,{}.5\n", 100 + i % 7, 900 + (i % 7 + i / 100) % 5, 10 * i, i % 3);
    std::iter::once("src,dst,ts,label,weight\n".to_string()).chain((0..400).map(row)).collect()
}

#[test]
fn a_csv_is_prepared_and_trained_on() {
    let place = Workspace::new();
    fs::write(place.path("events.csv"), events_csv()).unwrap();
    let reported: Value =
        serde_json::from_str(&place.succeeds(&["prepare", "events.csv", "--out", "prepared", "--json"])).unwrap();
    assert_eq!(
        (number(&reported, "/events"), number(&reported, "/nodes"), number(&reported, "/edge_features")),
        (400.0, 12.0, 1.0)
    );
    place.succeeds(&["train", "tiny.toml", "--set", "data.path=prepared", "--set", "train.epochs=1"]);
    let report = place.report("runs/tiny");
    assert_eq!((number(&report, "/data/events"), number(&report, "/data/edge_features")), (400.0, 1.0));
    assert_eq!(report["data"]["checksum"], reported["checksum"]);
    let said = place.fails(&["prepare", "events.csv", "--out", "prepared"]);
    assert!(said.contains("prepared") && said.contains("--force"), "{said}");
    fs::write(place.path("bad.csv"), events_csv().replace(",10,0,", ",x,0,")).unwrap();
    let said = place.fails(&["prepare", "bad.csv", "--out", "bad"]);
    assert!(said.contains("bad.csv") && said.contains("row") && said.contains('x'), "{said}");
    assert!(!place.path("bad").exists());
}

#[test]
fn a_labs_csv_is_prepared_by_names_and_printed_as_it_was_understood() {
    let place = Workspace::new();
    let row = |i: usize| {
        format!(
            "u{};i{};2024-01-{:02}T{:02}:00:00+01:00;{}\n",
            i % 15,
            i % 12,
            1 + i / 24,
            i % 24,
            ["view", "buy"][i % 2]
        )
    };
    let rows: String = (0..400).map(row).collect();
    fs::write(place.path("lab.csv"), format!("# exported\nwho;what;when;action\n{rows}u1;;2024-02-01;view\n")).unwrap();
    let roles = ["--src", "who", "--dst", "what", "--ts", "when", "--categorical", "action", "--missing", "drop"];
    let dry = place.succeeds(&[&["prepare", "lab.csv", "--dry-run"][..], &roles].concat());
    for part in [
        "semicolons",
        "who: source (as --src says)",
        "rows:    401",
        "15 sources and 12 destinations",
        "unit s",
        "nothing written",
    ] {
        assert!(dry.contains(part), "{part}: {dry}");
    }
    assert!(!place.path("lab").exists());
    place.succeeds(&[&["prepare", "lab.csv", "--out", "lab"][..], &roles].concat());
    place.succeeds(&["train", "tiny.toml", "--set", "data.path=lab", "--set", "train.epochs=1"]);
    place.succeeds(&["eval", "runs/tiny", "--scores", "scores"]);
    let ids: Vec<String> = serde_json::from_slice(&fs::read(place.path("scores.ids.json")).unwrap()).unwrap();
    assert_eq!((ids.len(), ids[0].as_str(), ids[15].as_str()), (27, "u0", "i0"));
    let said = place.fails(&["prepare", "tiny.toml", "--out", "spec"]);
    assert!(said.contains("`tempograph train` reads it"), "{said}");
}

#[test]
fn a_run_is_not_resumed_on_other_data_under_the_same_name() {
    let place = Workspace::new();
    fs::write(place.path("events.csv"), events_csv()).unwrap();
    place.succeeds(&["prepare", "events.csv", "--out", "prepared"]);
    let train = ["train", "tiny.toml", "--set", "data.path=prepared", "--set", "train.epochs=1"];
    place.succeeds(&train);
    place.succeeds(&[&train[..], &["--resume"]].concat());
    fs::write(place.path("events.csv"), events_csv().replacen("\n101,", "\n102,", 1)).unwrap();
    place.succeeds(&["prepare", "events.csv", "--out", "prepared", "--force"]);
    let said = place.fails(&[&train[..], &["--resume"]].concat());
    assert!(said.contains("checkpoint.safetensors") && said.contains("checksum"), "{said}");
}

/// A file system of a few kilobytes, where this process may mount one.
#[cfg(target_os = "linux")]
struct SmallDisk(PathBuf);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount(at: &Path, kilobytes: usize) -> Option<SmallDisk> {
        fs::create_dir(at).unwrap();
        let size = format!("size={kilobytes}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| SmallDisk(at.to_path_buf()))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_leaves_whole_files_behind() {
    let place = Workspace::new();
    let Some(disk) = SmallDisk::mount(&place.path("disk"), 64) else {
        return eprintln!("skipped: no small file system can be mounted here");
    };
    let said = place.fails(&["train", "tiny.toml", "--out", "disk/run", "--set", "model.memory=64"]);
    assert!(said.contains("disk/run/") && said.contains("No space left"), "{said}");
    let left: Vec<String> = fs::read_dir(disk.0.join("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(left.iter().all(|name| !name.ends_with(".partial")), "{left:?}");
    let report = place.report("disk/run");
    assert_eq!(report["status"], "failed");
    assert!(report["error"].as_str().unwrap().contains("No space left"), "{report:#}");
}

#[test]
fn a_plan_is_proposed_with_what_it_was_decided_from() {
    let place = Workspace::new();
    let plan = |more: &[&str]| -> Value {
        serde_json::from_str(&place.succeeds(&[&["plan", "tiny.toml", "--devices", "4", "--json"], more].concat()))
            .unwrap()
    };
    let found = plan(&["--machines", "2"]);
    let lanes: f64 =
        ["minibatch", "epoch", "memory"].iter().map(|key| number(&found, &format!("/parallel/{key}"))).product();
    assert_eq!(lanes, 8.0);
    assert_eq!(number(&found, "/parallel/memory") % 2.0, 0.0);
    let captured = found["captured"].as_array().unwrap();
    let shares: Vec<f64> = captured.iter().map(|one| number(one, "/share")).collect();
    assert_eq!(number(&captured[0], "/batch"), 50.0);
    assert!(shares.len() > 2 && shares.is_sorted_by(|smaller, larger| smaller >= larger), "{shares:?}");
    assert!(number(&found, "/bytes/history") > 35.0 * 8.0 * 4.0);
    assert_eq!(number(&found, "/bytes/weights"), 4.0 * number(&found, "/bytes/gradients"));
    // Prefetch has a graph of its own.
    assert!(number(&plan(&["--set", "parallel.prefetch=2"]), "/bytes/history") > number(&found, "/bytes/history"));

    // What is printed is a spec and a command that train what was planned for.
    let sets = ["--set", "train.batch=100", "--set", "name=\"two words\"", "--set", "train.epochs=1"];
    let said = place.succeeds(&[&["plan", "tiny.toml", "--devices", "2"], &sets[..]].concat());
    let (_, pasted) = said.split_once("\n[parallel]\n").unwrap();
    let (lines, command) = pasted.trim_end().rsplit_once('\n').unwrap();
    fs::write(place.path("tiny.toml"), format!("{SPEC}\n[parallel]\n{lines}")).unwrap();
    let command = command.replacen("tempograph", env!("CARGO_BIN_EXE_tempograph"), 1);
    let trained = Command::new("sh").args(["-c", &command]).current_dir(place.folder.path()).output().unwrap();
    assert!(trained.status.success(), "{command}: {}", stderr(&trained));
    let report = place.report("runs/two words");
    assert_eq!((number(&report, "/spec/train/batch"), number(&report, "/spec/train/epochs")), (100.0, 1.0));
    let planned = plan(&sets[..]);
    let lanes: f64 =
        ["minibatch", "epoch", "memory"].iter().map(|key| number(&report, &format!("/spec/parallel/{key}"))).product();
    assert_eq!((lanes, number(&planned, "/batch")), (2.0, 100.0));
    // One epoch passes two histories half.
    let halves = ["epoch", "memory"].iter().any(|key| number(&report, &format!("/spec/parallel/{key}")) == 2.0);
    assert_eq!(
        (halves, halves),
        (pasted.contains("# epochs = 2"), stderr(&trained).contains("Choose a multiple of 2"))
    );

    // Whatever batches capture, or nothing less than all.
    assert_eq!(number(&plan(&["--keep", "0"]), "/parallel/minibatch"), 4.0);
    assert_eq!(number(&plan(&["--keep", "1"]), "/parallel/minibatch"), 1.0);

    let said = place.succeeds(&["plan", "tiny.toml", "--devices", "4", "--timetable"]);
    assert!(said.contains("|0.0*") && said.contains("history 0, lane 0"), "{said}");
    assert!(said.contains("captured events") && said.contains("[parallel]\nminibatch = "), "{said}");
    let said = place.fails(&["plan", "tiny.toml", "--devices", "0"]);
    assert!(said.contains("0 devices"), "{said}");
}

#[test]
fn every_command_teaches_by_example() {
    let place = Workspace::new();
    assert!(place.succeeds(&["--help"]).contains("tempograph train experiments/quickstart.toml"));
    for command in [
        "prepare",
        "pretrain",
        "fetch",
        "plan",
        "train",
        "eval",
        "export",
        "serve",
        "load",
        "bench",
        "devices",
        "models",
        "new",
        "completions",
        "man",
    ] {
        let help = place.succeeds(&[command, "--help"]);
        assert!(help.contains(&format!("tempograph {command}")) && help.contains("Example"), "{command}: {help}");
    }
}

#[test]
fn shells_and_man_know_every_command_and_the_version_says_what_was_built() {
    let place = Workspace::new();
    let help = place.succeeds(&["--help"]);
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let commands: Vec<&str> =
        listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")).collect();
    let commands: Vec<&str> = commands.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"train") && commands.contains(&"completions"), "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = place.succeeds(&["completions", shell]);
        commands.iter().for_each(|command| assert!(script.contains(command), "{shell} does not know {command}"));
    }
    assert!(place.succeeds(&["man", "manual"]).starts_with("wrote "), "says what it wrote");
    for command in commands.iter().filter(|command| **command != "help") {
        let page = fs::read_to_string(place.path(&format!("manual/tempograph-{command}.1"))).unwrap();
        assert!(page.contains(&format!("tempograph\\-{command}")), "the page of {command}: {page}");
    }
    let version = place.succeeds(&["--version"]);
    for part in [env!("CARGO_PKG_VERSION"), "commit: ", "features: ", "vector instructions: "] {
        assert!(version.contains(part), "{version}");
    }
}

#[test]
fn a_servers_spec_is_written_with_every_key_and_refused_with_the_nearest_one() {
    let place = Workspace::new();
    assert!(place.succeeds(&["new", "--serve", "serve.toml"]).contains("tempograph serve ARTIFACT --spec serve.toml"));
    assert!(fs::read_to_string(place.path("serve.toml")).unwrap().contains("[limits]"));
    // The spec comes first: what is wrong with it is said before an artifact is looked for.
    let said = place.fails(&["serve", "nothing", "--spec", "serve.toml", "--set", "limits.conections=3"]);
    assert!(said.contains("in the spec serve.toml") && said.contains("did you mean `connections`?"), "{said}");
    let said = place.fails(&["serve", "nothing", "--spec", "serve.toml", "--listen", "127.0.0.1:0"]);
    assert!(said.contains("nothing"), "{said}");
}
