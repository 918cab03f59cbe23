//! What is written is opened again; what is damaged or in the way is refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::Timestamp;
use crate::dataset::*;

fn small() -> Dataset {
    let nodes = |ids: [u32; 3]| ids.map(NodeId).to_vec();
    let features: Arc<dyn Rows> = Arc::new(Table::new(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2).unwrap());
    let time = [10, 10, 25].map(Timestamp).to_vec();
    Dataset::new(DatasetContent {
        name: "small".into(),
        log: EventLog::new(nodes([0, 1, 0]), nodes([2, 3, 4]), time, vec![0.0, 1.0, 0.0], Some(features)).unwrap(),
        time_unit: TimeUnit { description: "h".into(), scale: 10 },
        node_features: Some(Table::new((0..15).map(|i| i as f32).collect(), 3).unwrap()),
        ids: IdMap::new(vec![7, 9, 7, 8, 100], Sides::Bipartite { sources: 2 }),
        source: "a/file.csv".into(),
        notices: vec!["a notice".into()],
    })
    .unwrap()
}

fn assert_same(a: &Dataset, b: &Dataset) {
    assert!(a.log.batch(0..a.log.len()).events().eq(b.log.batch(0..b.log.len()).events()));
    for id in 0..a.log.len() as u64 {
        assert_eq!(a.log.features().unwrap().row(id), b.log.features().unwrap().row(id));
    }
    assert_eq!(a.node_features.as_ref().unwrap().values(), b.node_features.as_ref().unwrap().values());
    assert_eq!(
        (a.ids.external_ids(), a.nodes, a.sides, &a.time_unit),
        (b.ids.external_ids(), b.nodes, b.sides, &b.time_unit)
    );
    assert_eq!((&a.name, &a.source, &a.notices, &a.checksum), (&b.name, &b.source, &b.notices, &b.checksum));
}

/// Names in a folder, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_written_dataset_is_opened_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("set");
    let set = small();
    set.write(&dir).unwrap();
    let opened = Dataset::open(&dir).unwrap();
    assert_same(&opened, &set);
    opened.verify().unwrap();
    assert_eq!(opened.ids.destination(7), Ok(NodeId(2)));
    assert_eq!(names(home.path()), ["set"], "nothing but the set is left");
    assert_eq!(names(&dir), ["columns.safetensors", "dataset.json"]);
}

#[test]
fn the_checksum_is_that_of_the_columns_file() {
    let home = tempfile::tempdir().unwrap();
    small().write(home.path()).unwrap();
    let bytes = fs::read(home.path().join("columns.safetensors")).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, small().checksum);
    let names = ["time", "node_ids", "src", "dst", "label", "edge_features", "node_features"];
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert!(tensors.len() == names.len() && names.iter().all(|name| tensors.tensor(name).is_ok()));
    assert_eq!(
        (tensors.tensor("edge_features").unwrap().shape(), tensors.tensor("node_features").unwrap().shape()),
        (&[3, 2][..], &[5, 3][..])
    );
}

#[test]
fn a_prepared_set_is_replaced_and_anything_else_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("set");
    small().write(&dir).unwrap();
    let old = Dataset::open(&dir).unwrap();
    Dataset { name: "newer".into(), ..small() }.write(&dir).unwrap();
    assert_eq!(Dataset::open(&dir).unwrap().name, "newer");
    assert_same(&old, &small());

    let thesis = home.path().join("thesis");
    fs::create_dir(&thesis).unwrap();
    fs::write(thesis.join("chapter.txt"), "words").unwrap();
    assert!(matches!(small().write(&thesis), Err(DatasetError::Occupied { .. })));
    assert_eq!(names(&thesis), ["chapter.txt"]);
    assert_eq!(names(home.path()), ["set", "thesis"]);
}

#[test]
fn a_set_that_cannot_be_written_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    let error = small().write(home.path().join("file/set")).unwrap_err();
    assert!(matches!(error, DatasetError::Io { .. }), "{error}");
    assert_eq!(names(home.path()), ["file"]);
}

#[test]
fn damage_is_refused_with_the_file() {
    let home = tempfile::tempdir().unwrap();
    let (columns, manifest) = (home.path().join("columns.safetensors"), home.path().join("dataset.json"));
    small().write(home.path()).unwrap();
    let (bytes, text) = (fs::read(&columns).unwrap(), fs::read_to_string(&manifest).unwrap());
    let refusal = || Dataset::open(home.path()).map(|_| ()).unwrap_err().to_string();

    fs::write(&columns, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refusal().contains("columns.safetensors") && refusal().contains("truncated"), "{}", refusal());

    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut late = bytes.clone();
    late[header] = 99;
    fs::write(&columns, &late).unwrap();
    assert!(refusal().contains("event 1 at t=10 comes after t=99"), "{}", refusal());

    let mut stranger = bytes.clone();
    let src = header + 3 * 8 + 5 * 8;
    stranger[src] = 4;
    fs::write(&columns, &stranger).unwrap();
    assert!(refusal().contains("event 0 has the source 4, but there are 2 sources"), "{}", refusal());

    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&columns, &changed).unwrap();
    let error = Dataset::open(home.path()).unwrap().verify().unwrap_err();
    assert!(matches!(error, DatasetError::Checksum { .. }), "{error}");

    fs::write(&columns, &bytes).unwrap();
    fs::write(&manifest, text.replace("\"events\": 3", "\"events\": 4")).unwrap();
    assert!(refusal().contains("array `edge_features` is F32 [3, 2]"), "{}", refusal());
    fs::write(&manifest, text.replace("\"version\": 1", "\"version\": 9")).unwrap();
    assert!(refusal().contains("format version 9 is not the version 1"), "{}", refusal());
    fs::write(&manifest, "{").unwrap();
    assert!(refusal().contains("dataset.json"), "{}", refusal());
}

#[test]
fn a_folder_that_was_never_prepared_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let message = Dataset::from_spec(home.path().to_str().unwrap()).unwrap_err().to_string();
    assert!(message.contains("run `tempograph prepare"), "{message}");
    let missing = Dataset::from_spec("no/such/folder").unwrap_err().to_string();
    assert!(missing.starts_with("no/such/folder: "), "{missing}");
}

#[test]
fn a_spec_may_name_a_generated_stream() {
    assert_eq!(Dataset::from_spec("synthetic:events=50").unwrap().log.len(), 50);
    assert!(Dataset::from_spec("synthetic:event=50").unwrap_err().to_string().contains("did you mean `events`?"));
}

#[test]
fn node_features_must_be_one_row_a_node() {
    let content = DatasetContent {
        name: "wrong".into(),
        log: EventLog::new(vec![], vec![], vec![], vec![], None).unwrap(),
        time_unit: TimeUnit::ticks(),
        node_features: Some(Table::new(vec![0.0; 4], 2).unwrap()),
        ids: IdMap::identity(3, Sides::OneMode),
        source: String::new(),
        notices: Vec::new(),
    };
    assert!(
        Dataset::new(content)
            .unwrap_err()
            .to_string()
            .contains("3 nodes, of them 3 sources, but 2 rows of node features")
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_shared_dataset_is_equal_and_is_freed_with_its_last_user() {
    let set = small();
    let (file, stated) = set.share().unwrap();
    let borrowed = Dataset::open_shared(&stated).unwrap();
    drop(file);
    assert_same(&borrowed, &set);
    borrowed.verify().unwrap();
    let refused = Dataset::open_shared(&stated).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("/proc/"), "{refused}");
}
