//! What the specs in this folder and the template of `tempograph new` promise.

use std::path::{Path, PathBuf};

use tempograph_experiments::Registry;
use tempograph_experiments::spec::RunSpec;
use tempograph_models::TgnSpec;

fn template() -> String {
    tempograph_experiments::new::template(Registry::default().kind("tgn").unwrap())
}
const MINIMAL: &str = "[data]\npath = \"synthetic:events=20000\"\n";
const SECTIONS: [&str; 8] = ["", "data", "model", "model.static", "pretrain", "train", "parallel", "eval"];

/// The keys a section has, from the parser's own complaint about one that it does not have.
fn keys_of(section: &str) -> Vec<String> {
    let wrong = if section.is_empty() { "no_such_key=1".to_string() } else { format!("{section}.no_such_key=1") };
    let error = format!("{:#}", RunSpec::parse(MINIMAL, &["model.kind=tgn".into(), wrong]).unwrap_err());
    let (_, listed) = error.split_once("expected one of ").expect("the complaint lists the keys");
    let mut keys: Vec<String> =
        listed.lines().next().unwrap().split('`').skip(1).step_by(2).map(String::from).collect();
    keys.extend((section == "model").then(|| "kind".to_string()));
    keys
}

/// Lines of the template in `section`, its own keys only.
fn lines_of(section: &str) -> Vec<String> {
    let header = |line: &str| line.starts_with('[').then(|| line.trim_matches(['[', ']']).to_string());
    let mut at = String::new();
    let mut lines = Vec::new();
    for line in template().lines() {
        match header(line) {
            Some(name) => at = name,
            None if at == section => lines.push(line.to_string()),
            None => {}
        }
    }
    lines
}

/// Whether a key of `section` has a section of its own.
fn is_section(section: &str, key: &str) -> bool {
    let path = if section.is_empty() { key.to_string() } else { format!("{section}.{key}") };
    SECTIONS.contains(&path.as_str())
}

#[test]
fn the_template_names_and_explains_every_key() {
    for section in SECTIONS {
        let (lines, keys) = (lines_of(section), keys_of(section));
        assert!(keys.len() > 3, "[{section}] has only the keys {keys:?}");
        for key in keys.iter().filter(|key| !is_section(section, key)) {
            let sets = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
            let at =
                lines.iter().position(|line| sets(line)).unwrap_or_else(|| panic!("[{section}] leaves out `{key}`"));
            assert!(
                at > 0 && lines[at - 1].starts_with('#'),
                "[{section}] does not explain `{key}` in the line above it"
            );
        }
    }
}

#[test]
fn the_template_shows_the_defaults() {
    assert_eq!(RunSpec::parse(&template(), &[]).unwrap(), RunSpec::parse(MINIMAL, &[]).unwrap());
}

#[test]
fn keys_commented_out_in_the_template_are_accepted() {
    let optional = |line: &str| {
        ["# name = ", "# negatives = ", "# static_memory = ", "# time_scale = ", "# nodes = ", "# walks = "]
            .iter()
            .any(|key| line.starts_with(key))
    };
    let template = template();
    let text: Vec<&str> = template.lines().map(|line| if optional(line) { &line[2..] } else { line }).collect();
    let spec = RunSpec::parse(&text.join("\n"), &[]).unwrap();
    assert!(!spec.name.is_empty() && spec.data.negatives.is_some() && spec.data.static_memory.is_some());
    let model = spec.model.settings::<TgnSpec>().unwrap();
    assert!(model.time_scale.is_some() && model.static_memory.nodes.is_some() && model.walks.is_some());
}

#[test]
fn every_spec_of_this_folder_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_spec = |path: &PathBuf| path.extension().is_some_and(|end| end == "toml") && !path.ends_with("Cargo.toml");
    let files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(is_spec).collect();
    for name in ["quickstart", "wikipedia", "uci", "enron", "mathoverflow"] {
        assert!(files.contains(&folder.join(name).with_extension("toml")), "there is no spec for {name}");
    }
    for file in files {
        let spec = RunSpec::read(&file, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(spec.name, file.file_stem().unwrap().to_string_lossy(), "a spec goes by the name of its file");
    }
}

#[path = "../../tests/fuzz/src/spoil.rs"]
#[allow(dead_code)]
mod spoil;

/// `ROUNDS=100000 cargo test --test specs` goes on for longer.
#[test]
fn damaged_specs_are_read_or_refused_with_the_place() {
    let names = ["quickstart.toml", "wikipedia.toml", "enron.toml", "uci.toml", "mathoverflow.toml"];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(folder.join(name)).unwrap()).collect();
    let mut refused = 0;
    spoil::feed(&examples, 1500, |bytes| {
        if let Err(error) = RunSpec::parse(&String::from_utf8_lossy(bytes), &[]) {
            refused += 1;
            assert!(!format!("{error:#}").is_empty());
        }
    });
    assert!(refused > 100, "{refused}: damage is noticed");
}
