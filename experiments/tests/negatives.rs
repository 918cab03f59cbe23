//! Fixed negatives of a file: read by the numbers that the file has, or refused by the row.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{fails, succeeds};
use tempograph_framework::{Dataset, EventId, FixedNegatives, NodeId, Split};

/// A pickle of a dict from (source, destination, time) to an array of destinations, as TGB writes it.
fn pickle(rows: &[([f64; 3], Vec<i64>)]) -> Vec<u8> {
    let mut bytes = b"\x80\x03}".to_vec();
    for (key, values) in rows {
        for number in key {
            bytes.push(b'G');
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(b"\x87cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01K");
        bytes.push(values.len() as u8);
        bytes.extend(b"\x85cnumpy\ndtype\nX\x02\0\0\0i8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89C");
        bytes.push((values.len() * 8) as u8);
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        bytes.extend(b"tbs");
    }
    bytes.push(b'.');
    bytes
}

const USERS: u64 = 12;
const ITEMS: u64 = 8;
const EVENTS: u64 = 400;

/// JODIE's layout, whose items are numbered from 0, as users are; one time of the training has a fraction.
fn prepare(folder: &Path) -> (Dataset, Split) {
    let mut csv = String::from("user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n");
    for event in 0..EVENTS {
        let time = if event == 5 { "6.5".to_string() } else { (event + 1).to_string() };
        csv += &format!("{},{},{time},0,0.5,0.25\n", event * 7 % USERS, event * 5 % ITEMS);
    }
    fs::write(folder.join("wiki.csv"), csv).unwrap();
    succeeds(folder, &["prepare", "wiki.csv", "--format", "jodie", "--out", "set"]);
    let set = Dataset::open(folder.join("set")).unwrap();
    let split = Split::by_time(set.log.time(), 0.15, 0.15).unwrap();
    (set, split)
}

fn spec(folder: &Path, files: [&str; 2]) {
    let text = format!(
        "[data]\npath = \"set\"\nnegatives = [\"{}\", \"{}\"]\n[model]\nkind = \"tgn\"\nmemory = 8\ntime = 8\nwidth = 8\nneighbours = 4\n[train]\nbatch = 50\nepochs = 1\n",
        files[0], files[1]
    );
    fs::write(folder.join("tiny.toml"), text).unwrap();
}

/// Rows of the events of a split; `number` says what the file calls an item.
fn rows(set: &Dataset, range: std::ops::Range<usize>, number: impl Fn(u64) -> i64) -> Vec<([f64; 3], Vec<i64>)> {
    let own = |node: NodeId| set.ids.external_id(node);
    range
        .map(|event| {
            let (src, dst) = (own(set.log.src()[event]), own(set.log.dst()[event]));
            let time = set.time_unit.from_ticks(set.log.time()[event]);
            let negatives = (1..4).map(|step| number((dst + step) % ITEMS)).collect();
            ([src as f64, number(dst) as f64, time], negatives)
        })
        .collect()
}

#[test]
fn a_file_of_tgb_is_read_by_running_numbers_or_by_own_ids_each_on_its_side_and_in_the_logs_ticks() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let (set, split) = prepare(folder);
    assert_eq!(set.time_unit.scale, 10, "one time has a fraction");
    let mut metrics = Vec::new();
    for (name, offset) in [("own", 0), ("running", USERS as i64)] {
        let number = |item: u64| item as i64 + offset;
        let files = [("val", split.val.clone()), ("test", split.test.clone())].map(|(part, range)| {
            let file = format!("{name}_{part}.pkl");
            fs::write(folder.join(&file), pickle(&rows(&set, range, number))).unwrap();
            file
        });
        spec(folder, [&files[0], &files[1]]);
        succeeds(folder, &["train", "tiny.toml", "--out", name]);
        let report = fs::read_to_string(folder.join(name).join("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        metrics.push(report["test"]["mrr"].clone());
    }
    assert!(metrics[0].is_f64() && metrics[0] == metrics[1], "{metrics:?}");
    // an event that is not there is named by the user's own ids and times
    let file = folder.join("own_test.pkl");
    let listed = rows(&set, split.test.start + 1..split.test.end, |item| item as i64);
    fs::write(&file, pickle(&listed)).unwrap();
    spec(folder, ["own_val.pkl", "own_test.pkl"]);
    let said = fails(folder, &["train", "tiny.toml", "--out", "missing"]);
    let first = split.test.start;
    let expected = format!(
        "event {first}: the file has no negatives for source {}, destination {} at time {}",
        first as u64 * 7 % USERS,
        first as u64 * 5 % ITEMS,
        first + 1
    );
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_negative_that_does_not_exist_is_a_source_or_the_true_destination_is_refused_by_its_row() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let (set, split) = prepare(folder);
    let table = |range: std::ops::Range<usize>, change: &dyn Fn(&mut Vec<NodeId>)| {
        let each = 3;
        let of = |event: usize| {
            let item = set.log.dst()[event].0 - USERS as u32;
            (1..=each).map(move |step| NodeId(USERS as u32 + (item + step) % ITEMS as u32))
        };
        let mut nodes: Vec<NodeId> = range.clone().flat_map(of).collect();
        change(&mut nodes);
        let offsets = (0..=range.len()).map(|row| row * each as usize).collect();
        FixedNegatives::new(EventId(range.start as u64), nodes, offsets).unwrap()
    };
    table(split.val.clone(), &|_| ()).write(&folder.join("val.safetensors")).unwrap();
    spec(folder, ["val.safetensors", "test.safetensors"]);
    let truth = set.log.dst()[split.test.start + 2];
    for (node, problem) in [
        (NodeId(5000), "node 5000 does not exist: the set has the nodes 0 to 19".to_string()),
        (NodeId(3), "node 3 is a source".to_string()),
        (truth, format!("node {truth} is the event's true destination")),
    ] {
        table(split.test.clone(), &|nodes| nodes[7] = node).write(&folder.join("test.safetensors")).unwrap();
        let said = fails(folder, &["train", "tiny.toml", "--out", "run"]);
        let place = format!("row 2 (event {}), negative 1: ", split.test.start + 2);
        assert!(said.contains(&place) && said.contains(&problem), "{said}");
        assert!(said.contains("data.negatives") && said.contains("test.safetensors"), "{said}");
    }
    table(split.test.clone(), &|_| ()).write(&folder.join("test.safetensors")).unwrap();
    succeeds(folder, &["train", "tiny.toml", "--out", "run"]);
}
