//! An engine answers the same with many threads, and after it is saved and opened again.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{EVENTS, SEEN, World, small};
use tempograph_framework::Dataset;
use tempograph_models::TgnSpec;
use tempograph_serving::{Engine, Granularity, NewEvent};

#[test]
fn a_saved_history_is_opened_unchanged_and_continues_equally() {
    for features in [0, 3] {
        let world = World::new(&small(), features);
        let engine = world.engine();
        let middle = SEEN + 50;
        engine.observe(&world.new_events(SEEN..middle), Granularity::Event).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("saved");
        let manifest = engine.save(&saved).unwrap();
        let opened = Engine::open(&saved).unwrap();
        assert_eq!((manifest.log_position, opened.position()), (middle as u64, engine.position()));
        assert_eq!(manifest.model_version(), engine.manifest().model_version(), "the weights are the same file");
        for engine in [&engine, &opened] {
            engine.observe(&world.new_events(middle..EVENTS), Granularity::Event).unwrap();
        }
        assert!(opened.history().to_store() == engine.history().to_store());
        let queries = world.queries(EVENTS - 1..EVENTS);
        assert_eq!(opened.score(&queries, &[]).unwrap(), engine.score(&queries, &[]).unwrap());
        assert_eq!(engine.save(&saved).unwrap().log_position, EVENTS as u64, "a later one takes its place");
    }
}

#[test]
fn events_wait_for_no_more_rows_while_a_large_world_is_saved_than_while_a_small_one_is() {
    /// Rows copied at a time: the limit of a copy, or the pages of the nodes that a request names.
    const MOST: u64 = 1024;
    for nodes in [2_000, 200_000] {
        let spec = TgnSpec { memory: 4, time: 4, width: 4, neighbours: 2, ..TgnSpec::default() };
        let set =
            Dataset::from_spec(&format!("synthetic:events=4000,users={},items={}", nodes / 2, nodes / 2)).unwrap();
        let world = World::of(&spec, set);
        let engine = world.engine();
        let folder = tempfile::tempdir().unwrap();
        let (saved, submitted) = (folder.path().join("saved"), AtomicUsize::new(SEEN));
        let (manifest, while_saved) = std::thread::scope(|scope| {
            let saving = scope.spawn(|| engine.save(&saved).unwrap());
            while engine.stats().most_copied == 0 && !saving.is_finished() {
                std::thread::yield_now();
            }
            while !saving.is_finished() && submitted.load(Ordering::Relaxed) < 4000 {
                let at = submitted.fetch_add(1, Ordering::Relaxed);
                engine.observe(&world.new_events(at..at + 1), Granularity::Event).unwrap();
            }
            (saving.join().unwrap(), submitted.load(Ordering::Relaxed))
        });
        let most = engine.stats().most_copied;
        assert!(most > 0 && most <= MOST, "{most} rows of {nodes} nodes were copied in one go");
        assert!(
            nodes < 100_000 || while_saved > manifest.log_position as usize,
            "no event came while {nodes} nodes were saved"
        );
        let reference = Engine::open(&world.folder()).unwrap();
        reference.observe(&world.new_events(SEEN..manifest.log_position as usize), Granularity::Event).unwrap();
        assert!(Engine::open(&saved).unwrap().history().to_store() == reference.history().to_store(), "{nodes} nodes");
    }
}

#[test]
fn events_are_applied_while_more_destinations_are_ranked_than_one_request_may_name() {
    const DESTINATIONS: u64 = 51_000;
    /// Nodes copied for a part: one for each pair, and the source.
    const MOST: u64 = 4096 + 1;
    let spec = TgnSpec { memory: 4, time: 4, width: 4, neighbours: 2, ..TgnSpec::default() };
    let world = World::new(&spec, 0);
    let engine = world.engine();
    let newest = engine.newest().unwrap().as_i64().unwrap();
    let event = |src: u64, dst: u64, time: i64| NewEvent {
        id: None,
        src: src.into(),
        dst: dst.into(),
        time: time.into(),
        label: 0.0,
        features: None,
    };
    let met: Vec<NewEvent> = (0..DESTINATIONS).map(|i| event(1 + i % 7, 1000 + i, newest + i as i64 / 16)).collect();
    met.chunks(8192).for_each(|part| _ = engine.observe(part, Granularity::Event).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let before = engine.save(&folder.path().join("was")).unwrap().log_position;
    let later = newest + DESTINATIONS as i64;
    let (ranked, submitted) = std::thread::scope(|scope| {
        let ranking = scope.spawn(|| engine.top_k(&3.into(), 500, Some(&later.into())).unwrap());
        let mut submitted = 0;
        while !ranking.is_finished() {
            engine
                .observe(
                    &[event(1 + submitted % 9, 1000 + (submitted * 7919) % DESTINATIONS, later)],
                    Granularity::Event,
                )
                .unwrap();
            submitted += 1;
        }
        (ranking.join().unwrap(), submitted)
    });
    let seen = ranked.position.log_seq - before;
    assert!(
        seen <= submitted && submitted > 20,
        "{submitted} events came while {DESTINATIONS} destinations were ranked, which had seen {seen}"
    );
    let most = engine.stats().most_shown;
    assert!(most <= MOST, "{most} nodes were copied at once");
    let was = Engine::open(&folder.path().join("was")).unwrap();
    (0..seen).for_each(|i| {
        _ = was.observe(&[event(1 + i % 9, 1000 + (i * 7919) % DESTINATIONS, later)], Granularity::Event).unwrap()
    });
    assert!(was.top_k(&3.into(), 500, Some(&later.into())).unwrap() == ranked);
}
