//! The files of `serving/deploy` say what the program takes, and their formats hold, as far as that can be told without
//! the systems themselves.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn deploy(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../serving/deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The long options in a text, each once.
fn options(text: &str) -> Vec<String> {
    let is_part = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let words = text.split(is_part).filter(|word| word.starts_with("--") && word.len() > 2);
    let mut all: Vec<String> = words.map(str::to_string).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn the_deployment_files_use_settings_that_the_server_accepts() {
    let help = Command::new(env!("CARGO_BIN_EXE_tempograph")).args(["serve", "--help"]).output().unwrap();
    let known = options(&String::from_utf8(help.stdout).unwrap());
    let line_of =
        |text: &str, start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_string();
    for reported in [
        line_of(&deploy("Dockerfile"), "CMD"),
        line_of(&deploy("tempograph.service"), "ExecStart"),
        line_of(&deploy("statefulset.yaml"), "args:"),
    ] {
        let reported = options(&reported);
        assert!(
            !reported.is_empty() && reported.iter().all(|option| known.contains(option)),
            "{reported:?} of {known:?}"
        );
    }
}

#[test]
fn the_image_is_built_as_the_readme_says() {
    let build = "docker build -f serving/deploy/Dockerfile -t tempograph .";
    assert!(deploy("Dockerfile").contains(build) && deploy("README.md").contains(build));
    let toolchain = fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml")).unwrap();
    let version = toolchain.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).unwrap();
    assert!(
        deploy("Dockerfile").contains(&format!("FROM rust:{version}-slim")),
        "the image is not built with Rust {version}"
    );
}

#[test]
fn systemd_takes_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("tempograph.service");
    fs::write(&unit, deploy("tempograph.service").replace("/usr/local/bin/tempograph", "/bin/true")).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&unit).output() {
        Err(error) => println!("skipped: systemd-analyze cannot be run here: {error}"),
        Ok(said) => {
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            // It may have something to say of units that are not ours.
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("tempograph.service")).collect();
            assert!(ours.is_empty(), "{ours:#?}");
        }
    }
}

#[test]
fn the_stateful_set_is_yaml_with_one_writer_and_both_probes() {
    let text = deploy("statefulset.yaml");
    assert!(text.contains("replicas: 1\n") && text.contains("/health/live") && text.contains("/health/ready"));
    let script = "import sys, json, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../serving/deploy/statefulset.yaml");
    let parsed = Command::new("python3").args(["-c", script]).stdin(fs::File::open(path).unwrap()).output();
    let Some(parsed) = parsed
        .ok()
        .filter(|parsed| parsed.status.success() || !String::from_utf8_lossy(&parsed.stderr).contains("No module"))
    else {
        println!("skipped: no python3 with PyYAML to parse it by");
        return;
    };
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    let kinds: Vec<serde_json::Value> = serde_json::from_slice(&parsed.stdout).unwrap();
    assert_eq!(kinds.iter().map(|kind| kind["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["Service", "StatefulSet"]);
}
