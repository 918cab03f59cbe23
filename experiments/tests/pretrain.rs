//! Static memory from the command line: learned, read, refused where it would leak, exported.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const SPEC: &str = r#"
name = "tiny"
seed = 3
threads = 1

[data]
path = "synthetic:events=900,users=20,items=15"
static_memory = "vectors.safetensors"

[model]
kind = "tgn"
memory = 8
time = 8
width = 8
neighbours = 4

[model.static]
how = "concat"
width = 6

[pretrain]
batch = 50
epochs = 5

[train]
batch = 50
epochs = 1

[eval]
negatives = 9
floors = false
"#;

struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new() -> Workspace {
        let place = Workspace(tempfile::tempdir().unwrap());
        std::fs::write(place.path("tiny.toml"), SPEC).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tempograph"))
            .args(args.split(' '))
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn succeeds(&self, args: &str) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, args: &str) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains("panicked"), "{args}: {said}");
        said
    }
}

#[test]
fn static_memory_is_learned_read_exported_and_the_same_under_the_same_seed() {
    let place = Workspace::new();
    let reported: Value = serde_json::from_str(&place.succeeds("pretrain tiny.toml --json")).unwrap();
    assert_eq!(
        (reported["events"].as_u64(), reported["nodes"].as_u64(), reported["width"].as_u64()),
        (Some(630), Some(35), Some(6)),
        "{reported}"
    );
    let bytes = std::fs::read(place.path("vectors.safetensors")).unwrap();
    assert!(place.fails("pretrain tiny.toml").contains("--force replaces it"));
    place.succeeds("pretrain tiny.toml --force --set threads=2");
    assert!(std::fs::read(place.path("vectors.safetensors")).unwrap() == bytes, "the same seed learned other vectors");
    place.succeeds("pretrain tiny.toml --set seed=4 --out other.safetensors");
    assert!(std::fs::read(place.path("other.safetensors")).unwrap() != bytes);

    place.succeeds("train tiny.toml");
    let report: Value = serde_json::from_slice(&std::fs::read(place.path("runs/tiny/report.json")).unwrap()).unwrap();
    assert_eq!((report["status"].as_str(), report["data"]["static_memory"].as_u64()), (Some("finished"), Some(6)));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.path("runs/tiny/artifact/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["widths"]["static"].as_u64(), Some(6));
    place.succeeds("eval runs/tiny");

    // Tuned in one run, off in the next.
    place.succeeds("train tiny.toml --set model.static.train=true --set model.static.how=add --out runs/tuned");
    let spec = std::fs::read_to_string(place.path("runs/tuned/spec.toml")).unwrap();
    assert!(spec.contains("nodes = 35"), "{spec}");
    place.succeeds("train tiny.toml --set model.static.how=off --out runs/off");
    let report: Value = serde_json::from_slice(&std::fs::read(place.path("runs/off/report.json")).unwrap()).unwrap();
    assert_eq!(report["data"]["static_memory"].as_u64(), Some(0));
}

#[test]
fn static_memory_of_another_split_other_data_or_another_width_is_refused() {
    let place = Workspace::new();
    let said = place.fails("train tiny.toml");
    assert!(said.contains("no static memory in vectors.safetensors") && said.contains("tempograph pretrain"), "{said}");
    place.succeeds("pretrain tiny.toml");
    for (set, says) in [
        ("data.test=0.2", "evaluated on"),
        ("data.val=0.1", "evaluated on"),
        ("data.hold_out=0.1", "evaluated on"),
        ("data.path=synthetic:events=900,users=20,items=15,seed=2", "SHA-256"),
        ("model.static.width=7", "6 wide"),
    ] {
        let said = place.fails(&format!("train tiny.toml --set {set}"));
        assert!(said.contains(says), "{set}: {said}");
        assert!(!place.path("runs").exists(), "{set} began a run");
    }
    let said = place.fails("train tiny.toml --set data.path=synthetic:events=900 --set model.embedding=identity");
    assert!(said.contains("concat") && said.contains("\"add\""), "{said}");
    std::fs::write(place.path("tiny.toml"), SPEC.replace("static_memory = \"vectors.safetensors\"\n", "")).unwrap();
    assert!(place.fails("pretrain tiny.toml").contains("data.static_memory"));
}
