//! An artifact is written and opened whole, or the error says what is wrong.
mod common;
#[path = "../../models/tests/kinds/row_model.rs"]
mod row_model;

use std::fs;
use std::path::Path;

use common::{World, small};
use serde_json::{Value, json};
use tempograph_framework::Store;
use tempograph_serving::{ArtifactError, Engine, Export};

type Edit = fn(&mut Value);

fn why(folder: &Path) -> String {
    Engine::open(folder).expect_err("a damaged artifact was opened").to_string()
}

#[allow(clippy::unwrap_used)]
fn edit_manifest(folder: &Path, edit: Edit) {
    let path = folder.join("manifest.json");
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn a_model_without_a_link_decoder_is_not_exported() {
    let world = World::new(&row_model::RowModel { outputs: 2 }, 3);
    let why = world.export().write(&world.folder()).expect_err("there are no links to score").to_string();
    let expected = "model.kind = \"rows\" has a row head of 2 outputs where a link decoder is needed";
    assert!(why.contains(expected), "{why}");
    assert!(!world.folder().exists());
}

#[test]
fn a_manifest_says_what_the_artifact_holds() {
    let world = World::new(&small(), 3);
    let written = world.export().write(&world.folder()).unwrap();
    let manifest = Engine::open(&world.folder()).unwrap().manifest().clone();
    assert_eq!(manifest, written);
    assert_eq!(
        (manifest.log_position, manifest.batch, manifest.nodes),
        (common::SEEN as u64, common::BATCH, world.set.nodes)
    );
    assert_eq!(manifest.newest, Some(world.set.log.time()[common::SEEN - 1].0));
    assert_eq!((&manifest.dataset.sha256, manifest.widths.edge), (&world.set.checksum, 3));
    let files: Vec<_> = manifest.files.keys().map(String::as_str).collect();
    assert_eq!(
        files,
        ["features.safetensors", "history.safetensors", "ids.safetensors", "spec.toml", "weights.safetensors"]
    );
}

#[test]
fn only_the_features_the_history_refers_to_are_kept() {
    let world = World::new(&small(), 3);
    world.export().write(&world.folder()).unwrap();
    let mut kept = Store::read(&world.folder().join("features.safetensors")).unwrap();
    let mut history = world.history.to_store();
    let (_, events) = kept.take::<u64>("edge.event").unwrap();
    let mut expected: Vec<u64> = ["mail.event", "link.event", "pending.id"]
        .iter()
        .flat_map(|name| history.take::<u64>(name).unwrap().1)
        .collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(events, expected);
    assert!(events.len() < common::SEEN, "{} of {} rows are kept", events.len(), common::SEEN);
    let plain = World::new(&small(), 0);
    plain.export().write(&plain.folder()).unwrap();
    assert!(!plain.folder().join("features.safetensors").exists());
}

#[test]
fn each_file_that_is_cut_changed_or_gone_is_named() {
    let world = World::new(&small(), 3);
    world.export().write(&world.folder()).unwrap();
    for name in ["weights.safetensors", "history.safetensors", "features.safetensors", "ids.safetensors", "spec.toml"] {
        let path = world.folder().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let error = why(&world.folder());
        let expected = format!("{name}: has {} bytes, but the manifest says {}", whole.len() - 3, whole.len());
        assert!(error.ends_with(&expected), "{error}");

        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&path, changed).unwrap();
        let error = why(&world.folder());
        assert!(
            error.contains(&format!("{name}: has the SHA-256 ")) && error.contains("but the manifest says"),
            "{error}"
        );

        fs::remove_file(&path).unwrap();
        let error = why(&world.folder());
        assert!(error.contains(&format!("{name}: No such file")), "{error}");
        fs::write(&path, whole).unwrap();
    }
    Engine::open(&world.folder()).unwrap();
}

#[test]
fn a_manifest_that_says_something_else_is_refused_with_what_it_says() {
    let cases: [(Edit, &str); 9] = [
        (
            |m| m["version"] = json!(9),
            "manifest.json: format version 9 is not one of the versions 1 to 2 that this program reads",
        ),
        (|m| m["format"] = json!("else"), "manifest.json: `format` is `else`, not `tempograph-artifact`"),
        (|m| m["model"] = json!("gat"), "manifest.json: model.kind = \"gat\"; did you mean \"tgat\"?"),
        (
            |m| m["log_position"] = json!(7),
            "history.safetensors: 300 events seen and 30 nodes, but the manifest says 7 and 30",
        ),
        (|m| m["newest"] = json!(7), "but the manifest says Some(7)"),
        (|m| m["time_unit"]["scale"] = json!(0), "manifest.json: `time_unit.scale` is 0; it must be at least 1"),
        (|m| m["widths"]["memory"] = json!(9), "spec.toml: model.memory = 8, but the manifest says 9"),
        (|m| drop(m["files"].as_object_mut().unwrap().remove("spec.toml")), "manifest.json: does not list spec.toml"),
        (|m| m["extra"] = json!(1), "unknown field `extra`"),
    ];
    for (edit, expected) in cases {
        let world = World::new(&small(), 0);
        world.export().write(&world.folder()).unwrap();
        edit_manifest(&world.folder(), edit);
        let error = why(&world.folder());
        assert!(error.contains(expected), "`{error}` does not say `{expected}`");
    }
}

#[test]
fn a_folder_that_is_no_artifact_is_refused() {
    let world = World::new(&small(), 0);
    assert!(why(&world.folder()).contains("artifact: No such file"));
    fs::create_dir(world.folder()).unwrap();
    assert!(why(&world.folder()).ends_with("is not an artifact: it has no manifest.json"));
    fs::write(world.folder().join("manifest.json"), "{").unwrap();
    assert!(why(&world.folder()).contains("manifest.json: EOF while parsing"));
}

#[test]
fn an_artifact_is_overwritten_only_with_force_and_other_files_never() {
    let mut world = World::new(&small(), 0);
    let folder = world.folder();
    world.export().write(&folder).unwrap();
    let error = world.export().write(&folder).unwrap_err();
    assert!(error.to_string().ends_with("is there already; it is left alone unless it is to be replaced"), "{error}");
    world.observe_all(common::SEEN..common::SEEN + 10, 10);
    Export { replace: true, ..world.export() }.write(&folder).unwrap();
    assert_eq!(Engine::open(&folder).unwrap().position().log_seq, common::SEEN as u64 + 10);

    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("thesis.txt"), "mine").unwrap();
    let error = Export { replace: true, ..world.export() }.write(&folder).unwrap_err();
    assert!(matches!(error, ArtifactError::Occupied { replaceable: false, .. }), "{error}");
    assert_eq!(fs::read_to_string(folder.join("thesis.txt")).unwrap(), "mine");
    let left: Vec<_> = fs::read_dir(folder.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn parts_that_do_not_belong_together_make_no_artifact() {
    let (world, other) = (World::new(&small(), 3), World::new(&small(), 0));
    let error = Export { dataset: &other.set, ..world.export() }.write(&world.folder()).unwrap_err();
    assert!(error.to_string().contains("the model reads 3 edge features, the dataset `synthetic` has 0"), "{error}");
    assert!(!world.folder().exists());
}
