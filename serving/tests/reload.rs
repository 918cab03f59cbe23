//! Weights are replaced under load, and back. Clients notice it only by the version in the answers.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use common::service::{chief, in_memory, ingest, open, saved, without_snapshots};
use common::{EVENTS, Running, SEEN, World, rounds, small};
use serde_json::{Value, json};
use tempograph_framework::{Features, History, SliceModel};
use tempograph_models::ModelSpec;
use tempograph_serving::{Engine, Granularity, PairQuery, ServeSpec, Service};

/// The same stream, with a model that learned something else from its first `seen` events.
fn other(features: usize, seen: usize) -> World {
    let mut world = World::new(&small(), features);
    let widths = world.model.program().inputs().features;
    world.model = ModelSpec::from(small()).on_slices(widths, 77).unwrap();
    let features = Features { edges: world.set.log.features().cloned(), ..Features::default() };
    world.history = History::new(world.set.nodes, world.model.needs(), world.set.log.time()[0], features);
    world.observe_all(0..seen, common::BATCH);
    world
}

fn name(engine: &Engine) -> String {
    engine.manifest().model_version()
}

#[test]
fn no_request_fails_while_weights_are_changed_and_each_answer_is_of_one_model_at_one_position() {
    (0..rounds()).for_each(|_| change_weights_under_queries());
}

fn change_weights_under_queries() {
    let (world, next) = (World::new(&small(), 2), other(2, SEEN));
    let mut engines = [world.engine(), next.engine()].map(|engine| (name(&engine), engine, SEEN));
    let service = open(&world.folder(), &without_snapshots());
    let asked = [PairQuery { time: None, ..world.queries(0..1)[0].clone() }];
    let (done, answers) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let engine = service.engine();
                    let scored = engine.score(&asked, &[]).unwrap();
                    answers.lock().unwrap().insert((
                        name(&engine),
                        scored.position.log_seq,
                        scored.answer[0].to_bits(),
                    ));
                }
            });
        }
        scope.spawn(|| {
            for event in world.new_events(SEEN..EVENTS).chunks(1) {
                ingest(&service, event).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut changes = 0;
        while !done.load(Ordering::Relaxed) {
            let changed = if changes % 2 == 0 { service.reload(&next.folder()) } else { service.rollback() }.unwrap();
            assert_eq!(changed.model, name(&service.engine()));
            changes += 1;
        }
        assert!(changes >= 3, "{changes} changes are no load");
    });
    // Every answer is the one that its model gives at its position.
    let answers = answers.into_inner().unwrap();
    assert_eq!(answers.iter().map(|(model, ..)| model).collect::<BTreeSet<_>>().len(), 2);
    for (model, seq, bits) in answers {
        let (_, engine, at) = engines.iter_mut().find(|(name, ..)| *name == model).unwrap();
        engine.observe(&world.new_events(*at..seq as usize), Granularity::Event).unwrap();
        *at = seq as usize;
        assert_eq!(engine.score(&asked, &[]).unwrap().answer[0].to_bits(), bits, "{model} at {seq}");
    }
}

#[test]
fn a_model_that_took_over_is_as_if_it_had_always_answered_and_is_there_after_a_restart() {
    let (world, next) = (World::new(&small(), 2), other(2, SEEN + 20));
    world.engine();
    let expected = next.engine();
    expected.observe(&world.new_events(SEEN + 20..EVENTS), Granularity::Event).unwrap();
    let service = open(&world.folder(), &without_snapshots());
    ingest(&service, &world.new_events(SEEN..SEEN + 70)).unwrap();
    let before = name(&service.engine());
    let reloaded = service.reload(&next.folder()).unwrap();
    assert_eq!(
        (reloaded.previous, reloaded.replayed, reloaded.position.log_seq),
        (before.clone(), 50, SEEN as u64 + 70)
    );
    ingest(&service, &world.new_events(SEEN + 70..EVENTS)).unwrap();
    assert_eq!(saved(&service.engine()), saved(&expected));
    drop(service);
    let service = open(&world.folder(), &without_snapshots());
    assert_eq!(saved(&service.engine()), saved(&expected), "started from the first artifact");
    drop(service);
    let service = Service::open(&next.folder(), &{
        let mut spec = without_snapshots();
        spec.log.dir = Some(world.folder().with_file_name("artifact.log"));
        spec
    });
    let service = service.unwrap();
    service.wait_until_ready(common::service::soon());
    assert_eq!(saved(&service.engine()), saved(&expected), "started from the second artifact");
}

#[test]
fn a_rollback_catches_up_with_what_happened_meanwhile() {
    let (world, next) = (World::new(&small(), 0), other(0, SEEN));
    let expected = world.engine();
    drop(next.engine());
    expected.observe(&world.new_events(SEEN..EVENTS), Granularity::Event).unwrap();
    let service = open(&world.folder(), &without_snapshots());
    assert!(service.rollback().unwrap_err().to_string().starts_with("there is no model before this one"));
    let first = name(&service.engine());
    ingest(&service, &world.new_events(SEEN..SEEN + 10)).unwrap();
    service.reload(&next.folder()).unwrap();
    ingest(&service, &world.new_events(SEEN + 10..EVENTS)).unwrap();
    let back = service.rollback().unwrap();
    assert_eq!(
        (back.model, back.replayed, back.position.log_seq),
        (first, EVENTS as u64 - SEEN as u64 - 10, EVENTS as u64)
    );
    assert_eq!(saved(&service.engine()), saved(&expected));
    drop(service);
    assert_eq!(saved(&open(&world.folder(), &without_snapshots()).engine()), saved(&expected));
}

#[test]
fn a_model_that_does_not_fit_is_refused_and_nothing_changes() {
    let (world, wide) = (World::new(&small(), 2), World::new(&small(), 3));
    let (early, ahead) = (other(2, SEEN - 60), other(2, SEEN + 40));
    world.engine();
    for world in [&wide, &early, &ahead] {
        world.engine();
    }
    let service = open(&world.folder(), &in_memory());
    let before = saved(&service.engine());
    let cases = [
        (
            wide.folder(),
            "cannot take over: it takes events of sources and destinations with ids that are numbers, 3 features an event",
        ),
        (world.folder().join("nowhere"), "No such file"),
        (early.folder(), "has seen 240 events and the log of record begins with event 300"),
        (ahead.folder(), "has seen 340 events, but the log of record ends after 300"),
    ];
    for (path, expected) in cases {
        let error = service.reload(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "`{error}` does not say `{expected}`");
    }
    assert_eq!(saved(&service.engine()), before);
}

#[test]
fn no_request_over_http_fails_while_weights_are_reloaded_and_rolled_back() {
    let changes = 6 * rounds();
    let (world, next) = (World::new(&small(), 2), other(2, SEEN));
    let names = [world.engine(), next.engine()].map(|engine| name(&engine));
    let mut spec = ServeSpec::default();
    spec.auth.tokens = vec![chief()];
    let server = Running::of(open(&world.folder(), &without_snapshots()), &spec);
    let ask = |method: &str, path: &str, body: &Value| {
        let (status, text) =
            server.send_with(method, path, "Authorization: Bearer chief\r\n", body.to_string().as_bytes());
        assert_eq!(status, 200, "{method} {path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let (done, models) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let asked = world.queries(0..1)[0].clone();
    let (query, rank) =
        (json!({ "queries": [{ "src": asked.src, "dst": asked.dst }] }), json!({ "src": asked.src, "k": 3 }));
    let reads = [("/v1/score", &query), ("/v1/score", &query), ("/v1/rank", &rank)];
    std::thread::scope(|scope| {
        for (path, body) in reads {
            let (done, models, ask) = (&done, &models, &ask);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let answer = ask("POST", path, body);
                    models.lock().unwrap().insert(answer["model"].as_str().unwrap().to_owned());
                }
            });
        }
        scope.spawn(|| {
            for event in world.new_events(SEEN..EVENTS) {
                ask("POST", "/v1/events", &json!({ "events": [event] }));
            }
        });
        for change in 0..changes {
            let (path, body) = if change % 2 == 0 {
                ("/admin/reload", json!({ "artifact": next.folder() }))
            } else {
                ("/admin/rollback", json!({}))
            };
            assert_eq!(ask("POST", path, &body)["model"], names[(change + 1) % 2]);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(*models.lock().unwrap(), BTreeSet::from(names), "both answered");
    assert_eq!(ask("GET", "/v1/model", &json!({}))["log_seq"], EVENTS, "every event was taken once");
}
