//! A read in parts is of the position at which it began.

use tempograph_framework::{Delta, Lookup, OtherMemory, Sampler, Side};
use tempograph_models::{Embedding, TgnSpec, WalkSpec};

use crate::engine::state::capture_tests::{RandomWorkload, engine_working};
use crate::engine::{Engine, EngineSpec, Strategy};
use crate::{ExternalId, RankQuery};

/// Candidates of a part: few, so that many events are applied between parts.
const AT_ONCE: usize = 4;

/// Models that together cover all that a view shows, and embeddings that are valid at more than one time.
fn variants() -> Vec<TgnSpec> {
    let uniform = TgnSpec { sampler: Sampler::Uniform, ..TgnSpec::default() };
    vec![
        TgnSpec::default(),
        TgnSpec { layers: 2, mail_memory: OtherMemory::AtRead, ..TgnSpec::default() },
        TgnSpec {
            time_delta: Delta::SinceUpdate,
            history: Lookup::Batch,
            update_without_mail: true,
            ..TgnSpec::default()
        },
        TgnSpec { time_delta: Delta::SinceUpdate, layers: 2, ..TgnSpec::default() },
        TgnSpec { embedding: Embedding::Time, time_scale: Some(10.0), ..TgnSpec::default() },
        TgnSpec { pair_features: true, ..TgnSpec::default() },
        TgnSpec { common_neighbours: true, ..TgnSpec::default() },
        TgnSpec { walks: Some(WalkSpec { layers: 2, width: 6, ..WalkSpec::default() }), ..TgnSpec::default() },
        TgnSpec { pair_features: true, ..uniform.clone() },
        uniform,
    ]
}

#[test]
fn a_long_ranking_sees_the_history_as_it_was_at_its_beginning() {
    let works = [(Strategy::Full, 0), (Strategy::Affected, 0), (Strategy::Cached, 2)];
    for (seed, (spec, (strategy, precompute))) in
        variants().into_iter().flat_map(|spec| works.map(|how| (spec.clone(), how))).enumerate()
    {
        let how = EngineSpec { strategy, precompute, kept: 64, ..EngineSpec::default() };
        let (folder, engine) = engine_working(spec.clone(), &how);
        let mut story = RandomWorkload::begin(&engine, &spec, seed as u64);
        for round in 0..3 {
            // A second engine: it applies no more events, and caches nothing.
            let at = folder.path().join("was");
            engine.save(&at).unwrap();
            let was =
                Engine::open_with(&at, &EngineSpec { strategy: Strategy::Full, ..EngineSpec::default() }).unwrap();
            let state = was.state().unwrap();
            let src = (0..6u64).map(ExternalId::from).find(|id| state.names.find(Side::Source, id).is_some()).unwrap();
            drop(state);
            let candidates = (round == 2)
                .then(|| was.rank(&RankQuery { src: src.clone(), candidates: None, time: None, k: 30 }).unwrap());
            let candidates = candidates.map(|ranked| ranked.answer.iter().map(|one| one.dst.clone()).collect());
            let query = RankQuery { src, candidates, time: None, k: 400 };
            let expected = was.rank(&query).unwrap();
            let mut parts = 1;
            let found = engine.rank_in_chunks(&query, &mut |done| {
                if done > 0.0 {
                    parts += 1;
                    story.step(&engine);
                }
                Ok(AT_ONCE)
            });
            let found = found.unwrap();
            assert_eq!(found.position, expected.position, "{how:?}, round {round}: {spec:?}");
            let differ = found.answer.iter().zip(&expected.answer).position(|(found, expected)| found != expected);
            assert!(
                found == expected,
                "{how:?}, round {round}, place {differ:?} of {}: {spec:?}",
                expected.answer.len()
            );
            assert!(
                parts > 3 && engine.position() != expected.position,
                "{parts} parts, and nothing happened meanwhile"
            );
        }
        // Both ends of each pair, where pairs are queried without cached embeddings.
        let most = engine.stats().most_shown;
        assert!(most <= 2 * AT_ONCE as u64, "{most} nodes were copied at once");
        assert!(engine.read_snapshots.lock().unwrap().is_empty(), "nothing is kept for who has been answered");
    }
}
