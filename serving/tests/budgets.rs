//! What a server takes has bounds, and it says so before it comes to that.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::service::{ScriptedLog, in_memory, ingest, open, saved, soon, with_log, without_snapshots};
use common::{EVENTS, Running, SEEN, World, small};
use serde_json::json;
use tempograph_serving::{
    BudgetSpec, EmbeddedLog, Engine, Granularity, IngestError, Log, LogSpec, NewEvent, PairQuery, ServeSpec, Service,
    ServiceSpec, SnapshotSpec,
};

/// More events of known nodes, each at a time of its own.
fn stream(world: &World, count: usize) -> Vec<NewEvent> {
    let known = world.new_events(SEEN..EVENTS);
    let newest = known.last().unwrap().time.as_i64().unwrap();
    let event = |i: usize| NewEvent { time: (newest + i as i64).into(), ..known[i % known.len()].clone() };
    (0..count).map(event).collect()
}

#[test]
fn features_that_nothing_refers_to_are_given_back_and_change_no_answer() {
    let world = World::new(&small(), 64);
    let engine = world.engine();
    let events = stream(&world, 30_000);
    let (mut most, fresh) = (0, tempfile::tempdir().unwrap());
    // Opened again often, an engine has nothing to give back.
    let mut other = Engine::open(&world.folder()).unwrap();
    for (i, part) in events.chunks(1000).enumerate() {
        engine.observe(part, Granularity::Event).unwrap();
        most = most.max(engine.feature_bytes());
        other.observe(part, Granularity::Event).unwrap();
        if i % 3 == 2 {
            let path = fresh.path().join(i.to_string());
            other.save(&path).unwrap();
            other = Engine::open(&path).unwrap();
        }
    }
    assert!(most < 3 << 20, "{most} bytes of features of 30 nodes, of {} sent", 30_000 * 64 * 4);
    assert_eq!(saved(&engine), saved(&other));
    let queries = world.queries(SEEN..EVENTS).into_iter().map(|query| PairQuery { time: None, ..query });
    let queries: Vec<_> = queries.collect();
    assert_eq!(engine.score(&queries, &[]).unwrap().answer, other.score(&queries, &[]).unwrap().answer);
}

#[test]
fn nodes_beyond_the_budget_are_refused_and_known_ones_go_on_before_and_after_a_restart() {
    let world = World::new(&small(), 0);
    let nodes = world.engine().nodes() as u64;
    let budget = BudgetSpec { nodes: Some(nodes + 4), ..BudgetSpec::default() };
    let spec = ServiceSpec { budget, ..without_snapshots() };
    let events = stream(&world, 10);
    let stranger = |i: usize| NewEvent { src: (1_000 + i as u64).into(), ..events[i].clone() };
    let service = open(&world.folder(), &spec);
    for i in 0..4 {
        ingest(&service, &[stranger(i)]).unwrap();
    }
    let full = |service: &Service, time: usize| {
        let Err(IngestError::OverBudget { setting, .. }) = ingest(service, &[stranger(5)]) else {
            panic!("a node too many was accepted")
        };
        assert_eq!(setting, "budget.nodes");
        ingest(service, &[NewEvent { time: events[time].time.clone(), ..stranger(2) }]).unwrap();
        assert_eq!(service.status().budget.nodes, nodes + 4);
    };
    full(&service, 8);
    drop(service);
    let service = open(&world.folder(), &spec);
    full(&service, 9);
    drop(service);
    // A budget that is smaller than what is there is no reason to crash.
    let smaller = BudgetSpec { nodes: Some(1), ..BudgetSpec::default() };
    let service = open(&world.folder(), &ServiceSpec { budget: smaller, ..spec });
    assert_eq!(service.status().budget.nodes, nodes + 4);
}

#[test]
fn memory_and_disk_have_budgets_that_the_server_states() {
    let world = World::new(&small(), 0);
    world.engine();
    let little = BudgetSpec { memory_mib: Some(1), ..BudgetSpec::default() };
    let server =
        Running::of(open(&world.folder(), &ServiceSpec { budget: little, ..in_memory() }), &ServeSpec::default());
    let events = stream(&world, 1);
    let (status, answer) = server.post("/v1/events", &json!({ "events": events }));
    assert_eq!((status, &answer["code"]), (507, &json!("over_budget")), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("budget.memory_mib"), "{answer}");
    let (_, metrics) = server.send_text("GET", "/metrics", "");
    for gauge in
        ["memory_bytes", "budget_memory_bytes", "budget_nodes", "feature_bytes", "over_budget_requests_total 1"]
    {
        assert!(metrics.contains(&format!("tempograph_{gauge}")), "{gauge}");
    }
    let world = World::new(&small(), 0);
    world.engine();
    let huge = BudgetSpec { disk_reserve_mib: 1 << 40, ..BudgetSpec::default() };
    let service = open(&world.folder(), &ServiceSpec { budget: huge, ..without_snapshots() });
    let error = ingest(&service, &events).unwrap_err().to_string();
    assert!(error.contains("budget.disk_reserve_mib"), "{error}");
    assert!(service.status().budget.disk_free_bytes.unwrap() > 0);
}

#[test]
fn a_server_whose_log_cannot_be_written_is_not_ready_and_becomes_so_by_itself() {
    let world = World::new(&small(), 0);
    world.engine();
    let log = Arc::new(ScriptedLog::default());
    let server = Running::of(with_log(&world.folder(), &in_memory(), log.clone()), &ServeSpec::default());
    let events = world.new_events(SEEN..SEEN + 2);
    assert_eq!(server.get("/health/ready").0, 200);
    for keeps_failed in [false, true] {
        log.keeps_failed.store(keeps_failed, Ordering::Relaxed);
        log.full.store(true, Ordering::Relaxed);
        assert_eq!(server.post("/v1/events", &json!({ "events": events })).0, 503);
        let (status, answer) = server.get("/health/ready");
        assert_eq!((status, &answer["status"]), (503, &json!("log-failing")), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("No space left"), "{answer}");
        assert_eq!(server.post("/v1/rank", &json!({ "src": 1 })).0, 200, "reads go on");
        log.full.store(false, Ordering::Relaxed);
        let deadline = soon();
        while server.get("/health/ready").0 != 200 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    // What the last write had left in the log has happened.
    assert_eq!(server.service.wait_for(SEEN as u64 + 2, soon()).unwrap().log_seq, SEEN as u64 + 2);
}

#[test]
fn the_log_keeps_what_snapshots_need_and_a_million_events() {
    let world = World::new(&small(), 0);
    world.engine();
    assert_eq!(LogSpec::default().keep_events, Some(1_000_000));
    let snapshots = SnapshotSpec { keep: 1, ..without_snapshots().snapshots };
    let log = LogSpec { keep_events: Some(10), ..LogSpec::default() };
    let service = open(&world.folder(), &ServiceSpec { log, snapshots, ..without_snapshots() });
    for event in world.new_events(SEEN..EVENTS) {
        ingest(&service, &[event]).unwrap();
    }
    service.snapshot().unwrap();
    let files = |dir: std::path::PathBuf| -> u64 {
        let sizes = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
        sizes.filter(|facts| facts.is_file()).map(|facts| 512 * std::os::unix::fs::MetadataExt::blocks(&facts)).sum()
    };
    let bytes = service.status().log_bytes;
    let dir = world.folder().with_file_name("artifact.log");
    assert!(bytes >= files(dir.clone()), "{bytes} bytes");
    drop(service);
    let retained = EmbeddedLog::open(&dir).unwrap().retained();
    assert_eq!(retained.end - retained.start, 10);
}
