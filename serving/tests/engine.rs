//! An engine that is told and asked by many, saved and opened again, is one engine.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use common::{EVENTS, SEEN, World, small};
use tempograph_serving::{Engine, Granularity};

#[test]
fn what_is_saved_is_opened_as_it_stood_and_goes_on_as_if_it_had_not_stopped() {
    for features in [0, 3] {
        let world = World::new(&small(), features);
        let engine = world.engine();
        let middle = SEEN + 50;
        engine.observe(&world.told(SEEN..middle), Granularity::Event).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("saved");
        let manifest = engine.save(&saved).unwrap();
        let opened = Engine::open(&saved).unwrap();
        assert_eq!((manifest.log_position, opened.position()), (middle as u64, engine.position()));
        assert_eq!(manifest.model_version(), engine.manifest().model_version(), "the weights are the same file");
        for engine in [&engine, &opened] {
            engine.observe(&world.told(middle..EVENTS), Granularity::Event).unwrap();
        }
        assert!(opened.history().to_store() == engine.history().to_store());
        let queries = world.questions(EVENTS - 1..EVENTS);
        assert_eq!(opened.score(&queries, &[]).unwrap(), engine.score(&queries, &[]).unwrap());
        assert_eq!(engine.save(&saved).unwrap().log_position, EVENTS as u64, "a later one takes its place");
    }
}
