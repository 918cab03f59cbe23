//! A served model gives the scores of training.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{BATCH, EVENTS, Running, SEEN, World, assert_close, batches, small};
use tempograph_framework::{
    Combine, Dataset, DatasetContent, Delta, Draw, EventLog, Lookup, NodeId, OtherMemory, Purpose, Queries, Sampler,
    Table, TimeUnit, Timestamp,
};
use tempograph_models::{
    AttentionForm, AttentionScores, Embedding, Message, ModelSpec, Registry, StaticMemoryMode, StaticSpec, TgnSpec,
    TncnSpec, WalkSpec,
};
use tempograph_serving::{ExternalId, Granularity, NewEvent, PairQuery, RankQuery};

/// Static memory fine-tuned for some of the nodes.
fn tuned() -> StaticSpec {
    StaticSpec { how: StaticMemoryMode::Concat, width: 5, train: true, nodes: Some(20), ..StaticSpec::default() }
}

/// Walks of up to two events, whose weight halves in about an hour.
fn walks() -> Option<WalkSpec> {
    Some(WalkSpec { layers: 2, width: 12, decay: Some(2e-4), seed: 3 })
}

/// Every registered kind, small, with and without static memory, and TGN settings that together cover all ways through
/// view and observe.
fn variants() -> Vec<ModelSpec> {
    let kinds = Registry::default().kinds().iter().map(|kind| narrow(&kind.settings())).collect::<Vec<_>>();
    let with_static: Vec<ModelSpec> = kinds.iter().filter_map(with_static_memory).collect();
    kinds.into_iter().chain(with_static).chain(variants_of_tgn().into_iter().map(ModelSpec::from)).collect()
}

/// The same settings with small widths, so that the test is fast.
fn narrow(spec: &ModelSpec) -> ModelSpec {
    let mut table = toml::Table::try_from(spec).unwrap();
    for (key, value) in [("memory", 8), ("time", 6), ("width", 8), ("neighbours", 4)] {
        if let Some(setting) = table.get_mut(key) {
            *setting = value.into();
        }
    }
    if let Some(part) = table.get_mut("static").and_then(toml::Value::as_table_mut) {
        part.insert("width".into(), 5.into());
    }
    Registry::default().read(table).unwrap()
}

/// The same settings with static memory, for kinds that can read it; node inputs are then not all zeros.
fn with_static_memory(spec: &ModelSpec) -> Option<ModelSpec> {
    let mut table = toml::Table::try_from(spec).unwrap();
    table.get_mut("static")?.as_table_mut()?.insert("how".into(), "add".into());
    Some(Registry::default().read(table).unwrap())
}

fn variants_of_tgn() -> Vec<TgnSpec> {
    vec![
        small(),
        TgnSpec { history: Lookup::Batch, ..small() },
        TgnSpec { layers: 2, pair_features: true, ..small() },
        TgnSpec { common_neighbours: true, pair_features: true, ..small() },
        TgnSpec { walks: walks(), ..small() },
        TgnSpec { walks: walks(), pair_features: true, history: Lookup::Batch, ..small() },
        TgnSpec { sampler: Sampler::Uniform, mail: Combine::Mean, message: Message::Mlp, ..small() },
        TgnSpec {
            history: Lookup::Batch,
            mail_memory: OtherMemory::AtRead,
            update_without_mail: true,
            attention: AttentionForm::TransformerConv,
            time_delta: Delta::SinceUpdate,
            ..small()
        },
        TgnSpec { attention_scores: AttentionScores::LeakyRelu, layers: 2, ..small() },
        TgnSpec { embedding: Embedding::Time, time_scale: Some(3600.0), ..small() },
        TgnSpec { embedding: Embedding::Identity, ..small() },
        TgnSpec {
            static_memory: StaticSpec { how: StaticMemoryMode::Add, width: 5, ..StaticSpec::default() },
            ..small()
        },
        TgnSpec { static_memory: tuned(), layers: 2, ..small() },
    ]
}

#[test]
fn replaying_the_rest_of_the_log_over_http_gives_the_offline_scores_and_state() {
    for features in [0, 3] {
        for history in [Lookup::Exact, Lookup::Batch] {
            let what = format!("{history:?}, {features} features");
            let mut world = World::new(&TgnSpec { history, ..small() }, features);
            let server = Running::start(&world);
            for range in batches(BATCH) {
                let submitted = world.new_events(range.clone());
                let during = if history == Lookup::Exact { submitted.as_slice() } else { &[] };
                let found = server.scores(&world.queries(range.clone()), during);
                server.ingest(&submitted, "batch");
                assert_close(&found, &world.evaluate(range), &what);
            }
            assert!(
                server.service.engine().history().to_store() == world.history.to_store(),
                "{what}: the states differ"
            );
        }
    }
}

#[test]
fn every_kind_of_model_goes_on_from_its_artifact_as_it_would_have_without() {
    for spec in variants() {
        let mut world = World::new(&spec, 3);
        let engine = world.engine();
        assert!(engine.history().to_store() == world.history.to_store(), "{spec:?}");
        for range in batches(BATCH) {
            let submitted = world.new_events(range.clone());
            let found = engine.score(&world.queries(range.clone()), &submitted).unwrap().answer;
            engine.observe(&submitted, Granularity::Batch).unwrap();
            assert_close(&found, &world.evaluate(range), &format!("{spec:?}"));
        }
        assert!(engine.history().to_store() == world.history.to_store(), "{spec:?}");
    }
}

#[test]
fn how_events_are_grouped_into_requests_changes_nothing() {
    let mut world = World::new(&TgnSpec { walks: walks(), ..small() }, 3);
    world.engine();
    world.observe_all(SEEN..EVENTS, 1);
    for size in [1, 7, EVENTS] {
        let engine = tempograph_serving::Engine::open(&world.folder()).unwrap();
        for range in batches(size) {
            engine.observe(&world.new_events(range), Granularity::Event).unwrap();
        }
        assert!(engine.history().to_store() == world.history.to_store(), "requests of {size} events");
    }
    let service = common::service::open(&world.folder(), &common::service::in_memory());
    let server = Running::of(service, &tempograph_serving::ServeSpec::default());
    batches(11).for_each(|range| drop(server.ingest(&world.new_events(range), "event")));
    assert!(server.service.engine().history().to_store() == world.history.to_store());
}

#[test]
fn a_node_that_comes_up_in_service_has_no_static_memory() {
    let mut world = World::new(&TgnSpec { static_memory: tuned(), ..small() }, 0);
    let engine = world.engine();
    let (stranger, dst, time) = (NodeId(world.set.nodes as u32), world.set.log.dst()[SEEN], world.set.log.time()[SEEN]);
    let event = NewEvent { src: 99_999.into(), ..world.new_events(SEEN..SEEN + 1).remove(0) };
    engine.observe(std::slice::from_ref(&event), Granularity::Event).unwrap();
    let later = Timestamp(time.0 + 5000);
    let asked = PairQuery { src: 99_999.into(), dst: event.dst, time: Some(later.0.into()) };
    let found = engine.score(&[asked], &[]).unwrap();

    world.history.grow(world.set.nodes + 1);
    let log = EventLog::new(vec![stranger], vec![dst], vec![time], vec![0.0], None).unwrap();
    let chance = Draw::new(0).of(Purpose::Sampling);
    let update = world.advance(&Queries::none(), &world.history.view(&Queries::none(), Some(&log.batch(0..1)), chance));
    world.history.observe(&log.batch(0..1), &update).unwrap();
    let asked = Queries::of_candidates(stranger, &[dst], later);
    let expected = world.forward(&asked, &world.history.view(&asked, None, chance)).scores;
    assert_close(&found.answer, &expected, "a stranger");
}

#[test]
fn a_score_sees_events_shown_before_its_time_only() {
    let world = World::new(&small(), 3);
    let engine = world.engine();
    let during = world.new_events(SEEN..SEEN + BATCH);
    let queries = world.queries(SEEN..SEEN + BATCH);
    let all = engine.score(&queries, &during).unwrap().answer;
    let blind = engine.score(&queries, &[]).unwrap().answer;
    let last = BATCH - 1;
    assert_ne!(all[last], blind[last], "the last query sees the events before it");
    let times = &world.set.log.time()[SEEN..SEEN + BATCH];
    for query in 0..BATCH {
        let earlier = times.partition_point(|&time| time < times[query]);
        let alone = engine.score(&queries[query..=query], &during[..earlier]).unwrap().answer;
        assert_close(&alone, &all[query..=query], &format!("query {query}"));
    }
}

#[test]
fn a_large_request_is_answered_in_parts_and_no_score_depends_on_the_others() {
    for spec in [
        TgnSpec { layers: 2, pair_features: true, walks: walks(), ..small() },
        TgnSpec { layers: 2, common_neighbours: true, ..small() },
    ] {
        let world = World::new(&spec, 3);
        let engine = world.engine();
        let some = world.queries(SEEN..SEEN + BATCH);
        let expected = engine.score(&some, &[]).unwrap().answer;
        let many: Vec<_> = some.iter().cycle().take(5000).cloned().collect();
        let expected: Vec<_> = expected.into_iter().cycle().take(5000).collect();
        assert_close(&engine.score(&many, &[]).unwrap().answer, &expected, &format!("5000 queries, {spec:?}"));
    }
}

#[test]
fn a_ranking_by_rows_of_pairs_is_that_of_one_view_with_all_pairs() {
    let tncn = narrow(&TncnSpec { zero_hop: true, ..TncnSpec::default() }.into());
    for spec in [tncn, TgnSpec { common_neighbours: true, ..small() }.into()] {
        let world = World::new(&spec, 3);
        let (engine, log) = (world.engine(), &world.set.log);
        // Each destination of the log once, as external id and as node.
        let mut names: Vec<(ExternalId, NodeId)> =
            world.new_events(0..EVENTS).iter().map(|event| event.dst.clone()).zip(log.dst().iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        let (ids, nodes): (Vec<ExternalId>, Vec<NodeId>) = names.into_iter().unzip();
        let src = world.new_events(SEEN..SEEN + 1)[0].src.clone();
        let query = RankQuery { src, candidates: Some(ids.clone()), time: Some(world.time(SEEN)), k: ids.len() };
        let ranked = engine.rank(&query).unwrap().answer;
        let score = |id: &ExternalId| ranked.iter().find(|one| one.dst == *id).unwrap().score;
        let found: Vec<f32> = ids.iter().map(score).collect();
        let queries = Queries::of_candidates(log.src()[SEEN], &nodes, log.time()[SEEN]);
        let view = world.history.view(&queries, None, Draw::new(0).of(Purpose::Sampling));
        assert_close(&found, &world.forward(&queries, &view).scores, &format!("{spec:?}"));
        assert!(ranked.is_sorted_by(|one, next| one.score >= next.score));
    }
}

#[test]
fn fractional_times_and_node_features_survive_the_artifact() {
    let plain = World::new(&small(), 0).set;
    let log = tempograph_framework::EventLog::new(
        plain.log.src().to_vec(),
        plain.log.dst().to_vec(),
        plain.log.time().iter().map(|time| Timestamp(time.0 * 10 + 3)).collect(),
        plain.log.label().to_vec(),
        None,
    );
    let set = Dataset::new(DatasetContent {
        name: "fractions".into(),
        log: log.unwrap(),
        time_unit: TimeUnit { description: "s".into(), scale: 10 },
        node_features: Some(Table::new((0..plain.nodes * 2).map(|i| (i as f32).sin()).collect(), 2).unwrap()),
        ids: plain.ids.clone(),
        source: "test".into(),
        notices: vec![],
    });
    let mut world = World::of(&small(), set.unwrap());
    let server = Running::start(&world);
    for range in batches(BATCH) {
        let submitted = world.new_events(range.clone());
        let found = server.scores(&world.queries(range.clone()), &submitted);
        server.ingest(&submitted, "batch");
        assert_close(&found, &world.evaluate(range), "fractions");
    }
}
