//! A warm engine applies single events and scores single pairs without allocating memory.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "../../tests/counting.rs"]
mod counting;

use common::{World, small};
use tempograph_framework::{Dataset, Lookup};
use tempograph_models::{AttentionForm, TgnSpec, WalkSpec};
use tempograph_serving::{Engine, Granularity, NewEvent, PairQuery};

/// Events of known nodes after those of `world`, each with a query just after it. With `new_pairs`, half of the events
/// have a destination that no event had before.
fn stream(world: &World, count: usize, new_pairs: bool) -> Vec<(NewEvent, PairQuery)> {
    let known = world.new_events(0..common::EVENTS);
    let newest = known.last().unwrap().time.as_i64().unwrap();
    let event_of = |i: usize| {
        // Two events share each tick, and five once the engine is warm.
        let tick = i.min(WARM) / 2 + i.saturating_sub(WARM) / 5;
        let mut submitted = NewEvent { time: (newest + 1 + tick as i64).into(), ..known[i * 7 % known.len()].clone() };
        if new_pairs && i.is_multiple_of(2) {
            submitted.dst = (i as u64).into();
        }
        let asked = PairQuery { src: submitted.src.clone(), dst: known[i * 5 % known.len()].dst.clone(), time: None };
        (submitted, asked)
    };
    (0..count).map(event_of).collect()
}

/// Number of events. The first bucket of features is too small for all, the second is not.
const COUNT: usize = 2300;
/// Number of events before allocations are counted.
const WARM: usize = 1300;

/// Number of allocations while the stream is served.
fn allocations(engine: &Engine, stream: &[(NewEvent, PairQuery)]) -> usize {
    let mut scores = Vec::with_capacity(1);
    let before = counting::asked();
    for (event, query) in stream {
        engine.observe(std::slice::from_ref(event), Granularity::Event).unwrap();
        engine.score_into(std::slice::from_ref(query), &[], &mut scores).unwrap();
        assert!(scores[0].is_finite());
    }
    counting::asked() - before
}

/// The only test of this file, because allocations of other threads would be counted too.
#[test]
fn an_event_and_a_score_allocate_nothing_once_the_engine_is_warm() {
    let variants = [
        small(),
        TgnSpec { layers: 2, ..small() },
        TgnSpec { pair_features: true, ..small() },
        TgnSpec { common_neighbours: true, ..small() },
        TgnSpec { walks: Some(WalkSpec { layers: 2, width: 8, ..WalkSpec::default() }), ..small() },
        TgnSpec {
            history: Lookup::Batch,
            attention: AttentionForm::TransformerConv,
            update_without_mail: true,
            ..small()
        },
    ];
    for spec in variants {
        for features in [0, 3] {
            let items = format!("synthetic:events={},users=18,items={COUNT},features={features}", common::EVENTS);
            let world = World::of(&spec, Dataset::from_spec(&items).unwrap());
            let engine = world.engine();
            // A new pair allocates room for its facts.
            let stream = stream(&world, COUNT, !spec.pair_features);
            let (first, rest) = stream.split_at(WARM);
            assert!(allocations(&engine, first) > 0, "the allocator counts");
            assert_eq!(allocations(&engine, rest), 0, "{features} features, {spec:?}");
        }
    }
}
