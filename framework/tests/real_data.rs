//! Real sets, where they are: `TEMPOGRAPH_DATA` names the folder with them.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use tempograph_framework::{Dataset, PrepareOptions, Sides, Split, prepare};

fn real(name: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("TEMPOGRAPH_DATA").map(|home| PathBuf::from(home).join(name)).filter(|dir| dir.is_dir());
    if dir.is_none() {
        println!("skipped: TEMPOGRAPH_DATA names no folder with {name} in it");
    }
    dir
}

fn prepared(name: &str) -> Option<Dataset> {
    Some(prepare(real(name)?, &PrepareOptions::default(), &mut |_, _| {}).unwrap())
}

#[test]
fn wikipedia_is_prepared_as_published() {
    let Some(set) = prepared("wikipedia") else { return };
    assert_eq!((set.log.len(), set.nodes, set.sides), (157_474, 9_227, Sides::Bipartite { sources: 8_227 }));
    assert_eq!((set.log.destinations().len(), set.edge_width(), set.node_width()), (1_000, 0, 0));
    assert_eq!(set.log.label().iter().filter(|&&label| label == 1.0).count(), 217);
    assert!(set.ids.external_ids().iter().copied().eq(0..9_227), "dense ids stay as they are");
    // What PyG's split gives on this stream.
    assert_eq!(Split::by_time(set.log.time(), 0.15, 0.15).unwrap().test.len(), 23_621);
}

#[test]
fn uci_is_prepared_with_its_feature_and_opened_again() {
    let Some(set) = prepared("uci") else { return };
    assert_eq!((set.log.len(), set.nodes, set.sides, set.edge_width()), (59_835, 1_899, Sides::OneMode, 1));
    let home = tempfile::tempdir().unwrap();
    set.write(home.path()).unwrap();
    let opened = Dataset::open(home.path()).unwrap();
    opened.verify().unwrap();
    assert_eq!((opened.log.features().unwrap().row(0), opened.checksum), (&[157.0][..], set.checksum));
}

#[test]
fn hepth_keeps_its_months_apart_although_its_times_are_fractions() {
    let Some(set) = prepared("hepth") else { return };
    let distinct = set.log.time().chunk_by(|a, b| a == b).count();
    assert_eq!((set.log.len(), set.nodes, set.node_width(), distinct), (51_315, 7_577, 128, 78));
    assert_eq!(set.time_unit.scale, 1_000_000_000);
    assert!(set.notices.iter().any(|notice| notice.contains("were rounded")), "{:?}", set.notices);
}
