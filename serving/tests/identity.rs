//! A server opens what belongs together, whole and finite, or says what does not; times are told to the last tick.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::path::Path;

use common::service::{in_memory, ingest, open, soon, without_snapshots};
use common::{EVENTS, Running, SEEN, World, small};
use serde_json::{Value, json};
use sha2::Digest;
use tempograph_framework::{
    Dataset, DatasetContent, EventLog, Features, History, SliceModel, Store, TimeUnit, Timestamp,
};
use tempograph_serving::{
    EmbeddedLog, Engine, Export, Granularity, IngestError, LogKind, LogSpec, PairQuery, RequestError, Service,
    ServiceSpec, SnapshotSpec,
};

/// A set with the same nodes and as many events, of which the first happened at another time.
fn another_set(shift: i64) -> World {
    of_times(|time| Timestamp(time.0 + shift), TimeUnit::ticks())
}

fn of_times(change: impl Fn(Timestamp) -> Timestamp, time_unit: TimeUnit) -> World {
    let plain = Dataset::from_spec(&format!("synthetic:events={EVENTS},users=18,items=12,features=0")).unwrap();
    let log = &plain.log;
    let times = log.time().iter().map(|&time| change(time)).collect();
    let log = EventLog::new(log.src().to_vec(), log.dst().to_vec(), times, log.label().to_vec(), None).unwrap();
    let content = DatasetContent {
        name: plain.name,
        log,
        time_unit,
        node_features: None,
        ids: plain.ids,
        source: plain.source,
        notices: Vec::new(),
    };
    World::of(&small(), Dataset::new(content).unwrap())
}

fn with_dirs(log: &Path, snapshots: &Path) -> ServiceSpec {
    let plain = without_snapshots();
    let snapshots = SnapshotSpec { dir: Some(snapshots.into()), at_drain: true, ..plain.snapshots };
    ServiceSpec { log: LogSpec { dir: Some(log.into()), ..LogSpec::default() }, snapshots, ..plain }
}

fn refused(artifact: &Path, spec: &ServiceSpec) -> String {
    Service::open(artifact, spec).map(drop).unwrap_err().to_string()
}

#[test]
fn a_log_of_other_events_is_refused_at_the_start_and_a_model_of_them_on_a_reload() {
    let (world, other, folder) = (another_set(0), another_set(1), tempfile::tempdir().unwrap());
    world.engine();
    other.engine();
    let spec = with_dirs(&folder.path().join("log"), &folder.path().join("snapshots"));
    let service = open(&world.folder(), &spec);
    ingest(&service, &world.new_events(SEEN..SEEN + 20)).unwrap();
    let said = service.reload(&other.folder()).unwrap_err().to_string();
    assert!(
        said.contains("has seen 300 events with the hash") && said.contains("they do not belong together"),
        "{said}"
    );
    assert!(service.drain(soon()));
    drop(service);
    let said = refused(&other.folder(), &spec);
    assert!(said.contains("has seen 300 events with the hash") && said.contains("--data DIR"), "{said}");
    // the right one goes on, in all its events
    assert_eq!(open(&world.folder(), &spec).position().log_seq, SEEN as u64 + 20);
}

#[test]
fn a_model_that_learned_from_more_of_the_same_events_goes_on_with_the_log() {
    let (world, folder) = (another_set(0), tempfile::tempdir().unwrap());
    world.engine();
    let spec = with_dirs(&folder.path().join("log"), &folder.path().join("snapshots"));
    let service = open(&world.folder(), &spec);
    ingest(&service, &world.new_events(SEEN..SEEN + 30)).unwrap();
    let later = |shift: i64| {
        let mut world = another_set(shift);
        world.observe_all(SEEN..SEEN + 20, 20);
        world.engine();
        world
    };
    let (more, others) = (later(0), later(1));
    assert!(service.reload(&others.folder()).unwrap_err().to_string().contains("has seen 320 events"));
    assert_eq!(service.reload(&more.folder()).unwrap().replayed, 10);
    drop(service);
    let spec = with_dirs(&folder.path().join("log"), &folder.path().join("snapshots of the new one"));
    assert_eq!(open(&more.folder(), &spec).position().log_seq, SEEN as u64 + 30);
    assert!(refused(&others.folder(), &spec).contains("they do not belong together"));
    // what a server saves says what it has seen, too
    let saved = Engine::open(&world.folder()).unwrap();
    saved.observe(&world.new_events(SEEN..SEEN + 20), Granularity::Event).unwrap();
    let path = folder.path().join("saved");
    assert_eq!(saved.save(&path).unwrap().past, Engine::open(&more.folder()).unwrap().manifest().past);
}

/// Changes a file of an artifact, and lets the manifest say so.
fn change(artifact: &Path, name: &str, with: impl FnOnce(&mut Store)) {
    let path = artifact.join(name);
    let mut store = Store::read(&path).unwrap();
    with(&mut store);
    store.write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    change_manifest(artifact, |manifest| {
        let sha256: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        manifest["files"][name] = json!({ "bytes": bytes.len(), "sha256": sha256 });
    });
}

fn change_manifest(artifact: &Path, with: impl FnOnce(&mut Value)) {
    let path = artifact.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    with(&mut manifest);
    std::fs::write(&path, manifest.to_string()).unwrap();
}

#[test]
fn an_artifact_of_the_first_form_without_a_hash_is_still_served() {
    let (world, folder) = (another_set(0), tempfile::tempdir().unwrap());
    world.engine();
    change_manifest(&world.folder(), |manifest| {
        manifest["version"] = json!(1);
        manifest.as_object_mut().unwrap().remove("past").unwrap();
    });
    let spec = with_dirs(&folder.path().join("log"), &folder.path().join("snapshots"));
    let service = open(&world.folder(), &spec);
    ingest(&service, &world.new_events(SEEN..SEEN + 5)).unwrap();
    drop(service);
    assert_eq!(open(&world.folder(), &spec).position().log_seq, SEEN as u64 + 5);
}

#[test]
fn two_servers_with_logs_of_their_own_do_not_share_snapshots() {
    let (world, folder) = (another_set(0), tempfile::tempdir().unwrap());
    world.engine();
    let snapshots = folder.path().join("snapshots");
    let [one, two] = ["one", "two"].map(|log| with_dirs(&folder.path().join(log), &snapshots));
    let service = open(&world.folder(), &one);
    ingest(&service, &world.new_events(SEEN..SEEN + 40)).unwrap();
    let said = refused(&world.folder(), &two);
    let process = format!("the server of process {}", std::process::id());
    assert!(said.contains(&process) && said.contains("snapshots.dir"), "{said}");
    assert!(service.drain(soon()));
    drop(service);
    let said = refused(&world.folder(), &two);
    assert!(said.contains("snapshot 1 in") && said.contains("is of the log of record"), "{said}");
    assert!(said.contains("snapshots.dir"), "{said}");
    // the first is where it was, and the second works with a folder of its own
    assert_eq!(open(&world.folder(), &one).position().log_seq, SEEN as u64 + 40);
    let apart = with_dirs(&folder.path().join("two"), &folder.path().join("other snapshots"));
    assert_eq!(open(&world.folder(), &apart).position().log_seq, SEEN as u64);
}

#[test]
fn a_server_that_kept_its_log_in_memory_once_starts_normally_afterwards() {
    let (world, folder) = (another_set(0), tempfile::tempdir().unwrap());
    world.engine();
    let normal = with_dirs(&folder.path().join("log"), &folder.path().join("snapshots"));
    let service = open(&world.folder(), &normal);
    ingest(&service, &world.new_events(SEEN..SEEN + 10)).unwrap();
    drop(service);
    let memory = ServiceSpec { log: LogSpec { kind: LogKind::Memory, ..LogSpec::default() }, ..normal.clone() };
    for _ in 0..4 {
        let service = open(&world.folder(), &memory);
        assert_eq!(service.position().log_seq, SEEN as u64);
        ingest(&service, &world.new_events(SEEN..SEEN + 40)).unwrap();
        assert!(service.drain(soon()));
    }
    assert_eq!(open(&world.folder(), &normal).position().log_seq, SEEN as u64 + 10);
}

#[test]
fn a_log_in_use_is_refused_with_the_process_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let _log = EmbeddedLog::open(folder.path()).unwrap();
    let said = EmbeddedLog::open(folder.path()).map(drop).unwrap_err().to_string();
    assert!(said.contains(&format!("the server of process {} has it", std::process::id())), "{said}");
    assert!(said.contains("--data DIR") && !said.contains("Locked"), "{said}");
}

#[test]
fn an_artifact_with_a_number_that_is_not_finite_is_refused_by_array_and_row() {
    let world = World::new(&small(), 3);
    for (file, name) in
        [("weights.safetensors", ""), ("history.safetensors", "memory"), ("features.safetensors", "edge.row")]
    {
        for value in [f32::NAN, f32::INFINITY] {
            Export { replace: true, ..world.export() }.write(&world.folder()).unwrap();
            let mut expected = String::new();
            change(&world.folder(), file, |store| {
                let first = store.names().find(|known| known.starts_with(name)).unwrap().to_string();
                let (shape, mut values) = store.take::<f32>(&first).unwrap();
                values[0] = value;
                store.put(first.clone(), shape, values);
                expected = format!("array `{first}`, row 0, column 0 is {value}");
            });
            let said = Engine::open(&world.folder()).map(drop).unwrap_err().to_string();
            assert!(said.contains(&expected) && said.contains(file), "{said}");
            assert!(refused(&world.folder(), &in_memory()).contains(&expected));
        }
    }
    // an export of such a model is refused as well
    let mut spoilt = World::new(&small(), 3);
    spoilt.model.parameters_mut().values_mut()[7] = f32::NAN;
    let said = Export { replace: true, ..spoilt.export() }.write(&spoilt.folder()).unwrap_err().to_string();
    assert!(said.contains("is NaN"), "{said}");
}

#[test]
fn a_flipped_byte_of_any_file_of_an_artifact_is_refused_by_the_file() {
    let world = World::new(&small(), 3);
    world.engine();
    for file in std::fs::read_dir(world.folder()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_str().unwrap().to_string();
        let whole = std::fs::read(&file).unwrap();
        for at in [0, whole.len() / 3, whole.len() / 2, whole.len() - 2] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&file, damaged).unwrap();
            // of the manifest only what is stated of the other files, and its own form, can be held against something
            match Engine::open(&world.folder()).map(drop) {
                Err(error) => assert!(error.to_string().contains(&world.folder().display().to_string()), "{error}"),
                Ok(()) => assert_eq!(name, "manifest.json", "byte {at}"),
            }
        }
        std::fs::write(&file, whole).unwrap();
    }
    assert!(Engine::open(&world.folder()).is_ok());
}

#[test]
fn an_answer_that_is_not_finite_is_an_error_and_counted() {
    let mut world = World::new(&small(), 0);
    // weights that are finite, and too large for any answer to be
    world.model.parameters_mut().values_mut().iter_mut().for_each(|value| *value *= 1e30);
    let features = Features { edges: world.set.log.features().cloned(), ..Features::default() };
    world.history = History::new(world.set.nodes, world.model.needs(), world.set.log.time()[0], features);
    world.observe_all(0..SEEN, common::BATCH);
    if world.history.not_finite().is_some() {
        let fresh = World::new(&small(), 0);
        world.history = fresh.history.clone();
    }
    let server = Running::start(&world);
    let PairQuery { src, dst, .. } = &world.queries(SEEN - 1..SEEN)[0];
    let asked = json!({ "queries": [{ "src": src, "dst": dst }] });
    let (status, answer) = server.post("/v1/score", &asked);
    assert_eq!((status, answer["code"].as_str()), (500, Some("internal")), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("not a finite number"), "{answer}");
    let (status, answer) = server.post("/v1/rank", &json!({ "src": src, "k": 3 }));
    assert_eq!(status, 500, "{answer}");
    let (_, metrics) = server.send_text("GET", "/metrics", "");
    assert!(metrics.contains("tempograph_not_finite_total 2"), "{metrics}");
}

#[test]
fn times_beyond_a_doubles_integers_are_read_and_written_to_the_last_tick() {
    let start = 1_700_000_000_000_000_001;
    let world = of_times(|time| Timestamp(start + time.0), TimeUnit::ticks());
    let server = Running::start(&world);
    let (_, model) = server.get("/v1/model");
    let newest = world.set.log.time()[SEEN - 1].0;
    assert_eq!(model["newest"].as_i64(), Some(newest));
    let event = |time: Value| json!({ "events": [{ "src": 1, "dst": 2, "time": time }], "ack": "applied" });
    let (status, answer) = server.post("/v1/events", &event(json!(newest - 1)));
    let expected = format!("events[0].time is {}, which is before {newest}, the newest time so far", newest - 1);
    assert_eq!((status, answer["error"].as_str()), (409, Some(&*expected)));
    assert_eq!(server.post("/v1/events", &event(json!(newest + 1))).0, 200);
    assert_eq!(server.get("/v1/model").1["newest"].as_i64(), Some(newest + 1));
    let (_, explained) = server.post("/v1/explain", &json!({ "src": 1, "dst": 2, "time": newest + 2 }));
    assert_eq!(explained["explanation"]["src"][0]["time"].as_i64(), Some(newest + 1), "{explained}");
    let (status, answer) = server.post("/v1/events", &event(json!(1.8e18)));
    assert_eq!(status, 422, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("write it as a whole number"), "{answer}");
}

#[test]
fn a_time_between_two_ticks_is_refused_with_both() {
    let unit = TimeUnit { description: "seconds".into(), scale: 10 };
    let world = of_times(|time| time, unit);
    world.engine();
    let service = open(&world.folder(), &in_memory());
    let newest = world.set.log.time()[SEEN - 1].0 / 10 + 1;
    let mut event = world.new_events(SEEN..SEEN + 1).remove(0);
    let mut submitted = |time: f64| {
        event.time = serde_json::Number::from_f64(time).unwrap();
        ingest(&service, std::slice::from_ref(&event))
    };
    let error = submitted(newest as f64 + 0.55).unwrap_err();
    assert!(matches!(&error, IngestError::Refused(RequestError::Invalid { .. })), "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("{newest}.5 and {newest}.6 are beside it")), "{said}");
    assert!(submitted(newest as f64 + 0.5).is_ok());
    assert!(submitted(newest as f64 + 0.5).is_ok(), "a time that was taken is not late when it is told again");
}
