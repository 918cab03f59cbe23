//! `tempograph train` and `tempograph bench` on a device, here a Vulkan one that a processor can be.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempograph_kernels::tensor::vulkan;

const SPEC: &str = r#"
name = "tiny"
seed = 3
threads = 1
device = "wgpu:0"

[data]
path = "synthetic:events=600,users=20,items=15"

[model]
kind = "tgn"
memory = 8
time = 8
width = 8
neighbours = 4
dropout = 0.0

[train]
batch = 50
epochs = 2
# so short that rounding, which Adam turns into whole steps where gradients vanish and times of days into other angles, does not lead far
lr = 1e-4

[eval]
negatives = 9
"#;

fn absent() -> bool {
    vulkan().inspect_err(|why| println!("skipped: {why}")).is_err()
}

/// What a command printed, and what it said meanwhile.
fn ran(folder: &Path, args: &[&str]) -> (Vec<u8>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tempograph")).args(args).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    (output.stdout, said)
}

fn reported(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_slice(&ran(folder, args).0).unwrap()
}

#[test]
fn a_run_says_at_the_start_where_its_history_is_and_why() {
    if absent() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.toml"), SPEC).unwrap();
    let said = |message: &str| {
        ran(folder.path(), &["train", "tiny.toml", "--force", "--set", "train.epochs=1", "--set", message]).1
    };
    let identity = said("model.message=\"identity\"");
    assert!(identity.contains("trains on wgpu:0: the history is there"), "{identity}");
    let mlp = said("model.message=\"mlp\"");
    assert!(mlp.contains("through the tape") && mlp.contains("model.message = \"mlp\""), "{mlp}");
}

#[test]
fn a_run_on_a_device_is_a_run_like_any_other() {
    if absent() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.toml"), SPEC).unwrap();
    let on_device = reported(folder.path(), &["train", "tiny.toml", "--out", "there", "--json"]);
    let on_host = reported(folder.path(), &["train", "tiny.toml", "--out", "here", "--json", "--set", "device=cpu"]);
    assert_eq!(on_device["status"], "finished");
    for (there, here) in on_device["epochs"].as_array().unwrap().iter().zip(on_host["epochs"].as_array().unwrap()) {
        let [there, here] = [there, here].map(|epoch| epoch["train"]["loss"].as_f64().unwrap());
        assert!((there - here).abs() < 1e-4, "{there} for {here}");
    }
    let ap = |report: &Value| report["test"]["ap"].as_f64().unwrap();
    assert!((ap(&on_device) - ap(&on_host)).abs() < 0.01, "{} for {}", ap(&on_device), ap(&on_host));
    assert!(folder.path().join("there/artifact/manifest.json").exists());

    let bench = ["bench", "tiny.toml", "--pairs", "1", "--steps", "6", "--json"];
    let launches =
        reported(folder.path(), &bench)["configurations"][0]["tempograph"]["launches_per_step"].as_f64().unwrap();
    assert!(launches > 20.0, "{launches} launches a step");
}

#[test]
fn a_plan_is_the_plan_on_one_device_and_on_several_of_one_process() {
    if absent() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.toml"), SPEC).unwrap();
    let lanes = ["parallel.memory=2", "parallel.epoch=2", "parallel.minibatch=2"];
    for (lanes, names) in lanes.into_iter().zip([["wgpu:0", "wgpu:0,1"], ["wgpu:1", "wgpu:1,0"], ["wgpu", "wgpu:0,1"]])
    {
        let run = |device: &str| {
            let args = [
                "train",
                "tiny.toml",
                "--force",
                "--json",
                "--set",
                "export=false",
                "--set",
                "threads=2",
                "--set",
                lanes,
                "--set",
            ];
            let (report, said) = ran(folder.path(), &[&args[..], &[&format!("device={device}")]].concat());
            (serde_json::from_slice::<Value>(&report).unwrap(), said)
        };
        let [(one, said), (two, _)] = names.map(run);
        assert!(said.contains("several lanes train from views") && !said.contains("tape"), "{said}");
        assert_eq!(one["weights_sha256"], two["weights_sha256"], "{lanes}: on {names:?}");
        assert_eq!(one["history_sha256"], two["history_sha256"], "{lanes}: on {names:?}");
        let (here, _) = run("cpu");
        assert_eq!(one["steps"], here["steps"], "{lanes}");
        for (there, here) in one["epochs"].as_array().unwrap().iter().zip(here["epochs"].as_array().unwrap()) {
            let [there, here] = [there, here].map(|epoch| epoch["train"]["loss"].as_f64().unwrap());
            assert!((there - here).abs() < 1e-4, "{lanes}: {there} for {here}");
        }
    }
}

#[test]
fn the_plan_for_two_devices_can_be_pasted_into_the_spec_and_trains_on_both() {
    if absent() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.toml"), SPEC).unwrap();
    let asked = ["plan", "tiny.toml", "--devices", "2"];
    let proposed = reported(folder.path(), &[&asked[..], &["--json"]].concat());
    assert_eq!(proposed["device"], "wgpu:0,1");
    let lanes: u64 =
        ["minibatch", "epoch", "memory"].iter().map(|axis| proposed["parallel"][axis].as_u64().unwrap()).product();
    assert_eq!(lanes, 2);
    let (shown, _) = ran(folder.path(), &asked);
    let shown = String::from_utf8(shown).unwrap();
    let (_, lines) = shown.split_once("\ndevice = ").unwrap();
    let (lines, command) = lines.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(command, "tempograph train tiny.toml");
    let spec = SPEC.replace("device = \"wgpu:0\"", &format!("device = {lines}"));
    std::fs::write(folder.path().join("tiny.toml"), spec).unwrap();
    let report =
        reported(folder.path(), &["train", "tiny.toml", "--json", "--set", "train.epochs=1", "--set", "export=false"]);
    assert_eq!(report["device"], "wgpu:0,1");
}

#[test]
fn devices_that_make_no_sense_are_refused_by_name() {
    if absent() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tiny.toml"), SPEC).unwrap();
    let mlp = ["parallel.memory=2", "model.message=\"mlp\""];
    let none: [&str; 0] = [];
    for (device, sets, expected) in [
        ("wgpu:0,1", &none[..], "device = \"wgpu:0,1\" names 2 devices, and the plan has 1 lanes here"),
        ("wgpu:0,0", &none, "names 0 twice"),
        ("wgpu:0,x", &none, "\"x\" is no number"),
        ("wgpu:7", &none, "wgpu:7"),
        ("wgpu:0,1", &mlp, "trains on one device"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tempograph"));
        command
            .args(["train", "tiny.toml", "--force", "--set", &format!("device={device}")])
            .current_dir(folder.path());
        for set in sets {
            command.args(["--set", set]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{device}: {said}");
    }
}
