//! The files of the Temporal Graph Benchmark: each set's edge list and negatives are what the benchmark's own loader makes of them.
//! `fixtures/tgb/make_layouts.py` wrote the small sets, with the benchmark's code.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempograph_framework::{
    Dataset, Format, NodeId, PrepareOptions, Prepared, Sides, Split, prepare_files, tgb_negatives,
};

/// What the benchmark's loader makes of a set.
#[derive(Deserialize)]
struct Expected {
    src: Vec<i64>,
    dst: Vec<i64>,
    time: Vec<i64>,
    features: Vec<Vec<f32>>,
    /// By the benchmark's number.
    node_features: Option<Vec<Vec<f32>>>,
    /// Events of the training split.
    train: Option<usize>,
    /// The negatives of each event of validation, and of the test.
    val: Option<Vec<Vec<i64>>>,
    test: Option<Vec<Vec<i64>>>,
}

fn layouts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tgb/layouts")
}

/// The folder of a set, its edge list and its expectation.
fn set(name: &str) -> (PathBuf, PathBuf, Expected) {
    let folder = layouts().join(name);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let list = files.into_iter().find(|path| path.to_string_lossy().contains("_edgelist")).unwrap();
    let expected = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    (folder, list, expected)
}

fn names() -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(layouts()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 13);
    names
}

fn try_read(path: &Path, options: &PrepareOptions) -> Result<Prepared, String> {
    prepare_files(&[path], options, &mut |_, _| {}).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Prepared {
    try_read(path, &PrepareOptions::default()).unwrap()
}

/// Which node has which of the benchmark's numbers, and that no node has two. The benchmark numbers a source and a destination separately
/// in `tgbl-uci` and `tgbl-enron`, where they are one node here.
fn nodes_by_number(name: &str, set: &Dataset, expected: &Expected) -> HashMap<i64, NodeId> {
    let mut nodes = HashMap::new();
    for (event, (&src, &dst)) in expected.src.iter().zip(&expected.dst).enumerate() {
        for (number, node) in [(src, set.log.src()[event]), (dst, set.log.dst()[event])] {
            assert_eq!(*nodes.entry(number).or_insert(node), node, "{name}: number {number} is one node");
        }
    }
    let sides = if ["tgbl-uci", "tgbl-enron"].contains(&name) { 2 } else { 1 };
    assert!(set.nodes <= nodes.len() && nodes.len() <= sides * set.nodes, "{name}: {} nodes", set.nodes);
    nodes
}

#[test]
fn every_edge_list_is_what_the_benchmarks_loader_makes_of_it() {
    for name in names() {
        let (folder, list, expected) = set(&name);
        // A folder as `fetch` leaves it, and the file alone.
        for source in [&folder, &list] {
            let Prepared { dataset, reading } = read(source);
            assert_eq!((dataset.name.as_str(), reading.format), (name.as_str(), Format::Tgb));
            let time: Vec<i64> = dataset.log.time().iter().map(|time| time.0).collect();
            assert_eq!(time, expected.time, "{name}: whole times in the order of the file");
            assert_eq!(dataset.time_unit.scale, 1, "{name}");
            let nodes = nodes_by_number(&name, &dataset, &expected);
            let width = expected.features[0].len();
            assert_eq!(dataset.edge_width(), width, "{name}: features");
            for event in (0..dataset.log.len()).filter(|_| width > 0) {
                let found = dataset.log.features().unwrap().row(event as u64);
                let near = |(&a, &b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
                assert!(found.iter().zip(&expected.features[event]).all(near), "{name}, event {event}: {found:?}");
            }
            for (number, row) in expected.node_features.iter().flatten().enumerate() {
                let node = nodes[&(number as i64)];
                let found = dataset.node_features.as_ref().unwrap();
                let width = found.values().len() / dataset.nodes;
                assert_eq!(found.values()[node.index() * width..][..width], row[..], "{name}, node {number}");
            }
        }
    }
}

#[test]
fn the_fixed_negatives_of_every_link_set_are_those_of_the_benchmark_event_by_event() {
    for name in names().into_iter().filter(|name| name.starts_with("tgbl-")) {
        let (folder, list, expected) = set(&name);
        let dataset = read(&list).dataset;
        let split = Split::by_time(dataset.log.time(), 0.15, 0.15).unwrap();
        assert_eq!(Some(split.train.len()), expected.train, "{name}: the split is that of the benchmark");
        let behind = expected.src.iter().max().unwrap() + 1;
        let by_number = nodes_by_number(&name, &dataset, &expected);
        for (part, range, lists) in [("val", split.val, expected.val), ("test", split.test, expected.test)] {
            let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            let file = files.into_iter().find(|path| path.to_string_lossy().contains(&format!("_{part}_ns"))).unwrap();
            let fixed = tgb_negatives(&file, &dataset, &dataset.log, range.clone()).unwrap();
            fixed.check(range.clone(), dataset.log.dst(), dataset.nodes, dataset.sides).unwrap();
            let lists = lists.unwrap();
            assert_eq!(lists.len(), range.len(), "{name}");
            for (event, list) in range.zip(lists) {
                // A node that is never a destination has, as one, no number among the events of uci and enron.
                let node = |number: &i64| by_number.get(number).or_else(|| by_number.get(&(number - behind))).copied();
                let expected: Vec<NodeId> = list.iter().map(|number| node(number).unwrap()).collect();
                assert_eq!(
                    fixed.of(tempograph_framework::EventId(event as u64)).unwrap(),
                    expected,
                    "{name}, event {event}"
                );
            }
        }
    }
}

#[test]
fn sides_are_those_that_the_benchmark_and_the_files_give() {
    for (name, bipartite) in [
        ("tgbl-wiki", true),
        ("tgbl-subreddit", true),
        ("tgbl-lastfm", true),
        ("tgbl-uci", false),
        ("tgbl-enron", false),
        ("tgbl-review", false),
        ("tgbl-coin", false),
        ("tgbl-comment", false),
        ("tgbl-flight", false),
        ("tgbn-trade", false),
        ("tgbn-genre", true),
        ("tgbn-reddit", true),
        ("tgbn-token", true),
    ] {
        let sides = read(&set(name).1).dataset.sides;
        assert_eq!(matches!(sides, Sides::Bipartite { .. }), bipartite, "{name}");
    }
}

#[test]
fn names_of_people_are_kept_as_written_whatever_they_look_like() {
    let set = read(&set("tgbl-comment").1).dataset;
    let names: Vec<String> = (0..set.nodes).map(|node| set.ids.name(NodeId(node as u32)).into_owned()).collect();
    for name in ["null", "NaN", "007", "7.0", "-1", "#1", "a, b", "None", "1e5", "zoë"] {
        assert!(names.iter().any(|other| other == name), "{name}: {names:?}");
    }
}

#[test]
fn fractions_of_times_are_cut_off_and_the_notes_say_how_many() {
    let notes = read(&set("tgbl-subreddit").1).dataset.notices;
    assert!(
        notes.iter().any(|note| note.starts_with("the fractions of ") && note.contains("times were cut off")),
        "{notes:?}"
    );
}

#[test]
fn labels_of_nodes_are_refused_with_the_file_to_prepare() {
    let file = layouts().join("tgbn-genre/tgbn-genre_node_labels.csv");
    let refused = try_read(&file, &PrepareOptions::default()).err().unwrap();
    assert!(
        refused.contains("labels of nodes at certain times, and no events; prepare tgbn-genre_edgelist.csv"),
        "{refused}"
    );
}

#[test]
fn a_file_of_another_name_is_read_where_the_set_is_named() {
    let (_, list, expected) = set("tgbl-wiki");
    let place = tempfile::tempdir().unwrap();
    let other = place.path().join("wiki.csv");
    fs::copy(list, &other).unwrap();
    let options = PrepareOptions { format: Some(Format::Tgb), ..PrepareOptions::default() };
    let refused = try_read(&other, &options).err().unwrap();
    assert!(refused.contains("--name says which set it is: tgbl-wiki, "), "{refused}");
    let named = try_read(&other, &PrepareOptions { name: Some("tgbl-wiki".into()), ..options }).unwrap();
    assert_eq!(named.dataset.log.len(), expected.src.len());
}

#[test]
fn a_layout_that_is_not_the_sets_is_refused_with_the_columns_it_has() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tgbl-flight_edgelist_v2.csv");
    fs::write(&file, "day,src,dst,callsign\n1,KJFK,EGLL,SWR1\n").unwrap();
    let refused = try_read(&file, &PrepareOptions::default()).err().unwrap();
    assert!(
        refused.contains("4 columns, and the edge list of tgbl-flight has 5: day,src,dst,callsign,typecode"),
        "{refused}"
    );
    for (set, row, value) in [("tgbl-comment", "1,a,b,1e300,2", "1e300"), ("tgbl-coin", "1,a,b,-1", "-1")] {
        let file = place.path().join(format!("{set}_edgelist.csv"));
        let header = if set == "tgbl-coin" { "time,src,dst,weight" } else { "ts,src,dst,num_words,score" };
        fs::write(&file, format!("{header}\n{row}\n")).unwrap();
        let refused = try_read(&file, &PrepareOptions::default()).err().unwrap();
        assert!(refused.contains(&format!("is `{value}`, and a feature, ")), "{refused}");
    }
    fs::write(&file, "day,src,dst,callsign,typecode\n1,KJFK,EGLL,SWR123456,A320\n").unwrap();
    let refused = try_read(&file, &PrepareOptions::default()).err().unwrap();
    assert!(refused.contains("row 2: `callsign` is `SWR123456`; at most 8 letters are read of it"), "{refused}");
}
