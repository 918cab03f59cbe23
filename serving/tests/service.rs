//! A service applies events in one order, each once, and acknowledges them at the requested level.
mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::service::{
    ScriptedLog, in_memory, ingest, ingest_with_retry, open, request, saved, soon, with_ids, with_log,
    without_snapshots,
};
use common::{EVENTS, Running, SEEN, World, small};
use tempograph_framework::Dataset;
use tempograph_serving::{
    Ack, EngineSpec, Granularity, IngestError, IngestRequest, LONGEST_ID, Late, Log, LogSpec, Mutation, NewEvent,
    OnError, Readiness, RequestError, Retraction, ServeSpec, Service, ServiceSpec,
};

#[test]
fn submitted_events_reach_the_engine() {
    let world = World::new(&small(), 3);
    let engine = world.engine();
    let service = open(&world.folder(), &without_snapshots());
    for (i, event) in world.new_events(SEEN..EVENTS).iter().enumerate() {
        let receipt = ingest(&service, std::slice::from_ref(event)).unwrap();
        assert_eq!((receipt.first_seq, receipt.position.log_seq), ((SEEN + i) as u64, (SEEN + i) as u64 + 1));
    }
    engine.observe(&world.new_events(SEEN..EVENTS), Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
    assert!(service.drain(soon()));
    assert_eq!(service.readiness(), Readiness::Draining);
}

#[test]
fn an_event_submitted_again_under_its_id_is_applied_once() {
    let world = World::new(&small(), 0);
    world.engine();
    let events = with_ids(world.new_events(SEEN..SEEN + 20));
    let service = open(&world.folder(), &without_snapshots());
    let twice = [&events[..5], &events[..5]].concat();
    let receipt = ingest(&service, &twice).unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates, receipt.position.log_seq), (5, 5, SEEN as u64 + 5));
    // Known events may be late, and may be among new ones.
    let receipt = ingest(&service, &events[2..10]).unwrap();
    assert_eq!((receipt.first_seq, receipt.accepted, receipt.duplicates), (SEEN as u64 + 5, 5, 3));
    drop(service);
    let service = open(&world.folder(), &without_snapshots());
    let receipt = ingest(&service, &events).unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates, receipt.position.log_seq), (10, 10, SEEN as u64 + 20));
    assert_eq!(service.status().duplicates, 10);
}

#[test]
fn a_repeated_id_with_another_event_is_refused_with_the_number_of_the_first() {
    let world = World::new(&small(), 0);
    world.engine();
    let events = with_ids(world.new_events(SEEN..SEEN + 3));
    let mut other = events[1].clone();
    other.label += 1.0;
    let reused = |service: &Service, events: &[NewEvent]| match ingest(service, events) {
        Err(IngestError::Refused(RequestError::IdReused { place, number, .. })) => (place, number),
        other => panic!("{other:?}"),
    };
    let service = open(&world.folder(), &without_snapshots());
    // Within a request the first has no number yet.
    assert_eq!(reused(&service, &[events[1].clone(), other.clone()]), ("events[1].id".into(), None));
    assert_eq!(service.status().durable_seq, SEEN as u64, "the request was refused as a whole");
    ingest(&service, &events).unwrap();
    let first = ("events[0].id".to_string(), Some(SEEN as u64 + 1));
    assert_eq!(reused(&service, std::slice::from_ref(&other)), first);
    drop(service);
    let service = open(&world.folder(), &without_snapshots());
    assert_eq!(reused(&service, std::slice::from_ref(&other)), first, "the log has it after a restart");
    // The same event is the same however its numbers are written.
    let mut same = events[1].clone();
    same.time = serde_json::Number::from_f64(same.time.as_f64().unwrap()).unwrap();
    assert_eq!(ingest(&service, &[same]).unwrap().duplicates, 1);
    // Another time, another node or other features are another event as well.
    let (mut time, mut node) = (events[1].clone(), events[1].clone());
    time.time = (time.time.as_i64().unwrap() + 1).into();
    node.dst = events.iter().map(|event| event.dst.clone()).find(|dst| *dst != node.dst).unwrap();
    for changed in [time, node] {
        assert_eq!(reused(&service, &[changed]), first);
    }
}

#[test]
fn a_repeated_event_is_as_durable_as_the_first_when_it_is_acknowledged() {
    let world = World::new(&small(), 0);
    world.engine();
    let log = Arc::new(ScriptedLog::default());
    let service = with_log(&world.folder(), &in_memory(), log.clone());
    let events = with_ids(world.new_events(SEEN..SEEN + 1));
    log.hold(true);
    let first = service.submit(request(&events, Ack::Accepted)).unwrap().wait().unwrap();
    assert_eq!(first.accepted, 1);
    let again = service.submit(request(&events, Ack::Durable)).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(service.durable_seq(), SEEN as u64);
    log.hold(false);
    let again = again.wait().unwrap();
    assert_eq!((again.accepted, again.duplicates, service.durable_seq()), (0, 1, SEEN as u64 + 1));
}

#[test]
fn each_acknowledgement_comes_when_it_is_true_and_reads_see_only_what_is_durable() {
    let world = World::new(&small(), 0);
    world.engine();
    let log = Arc::new(ScriptedLog::default());
    let service = with_log(&world.folder(), &in_memory(), log.clone());
    let events = world.new_events(SEEN..SEEN + 3);
    log.hold(true);
    let accepted = service.submit(request(&events[..1], Ack::Accepted)).unwrap().wait().unwrap();
    assert_eq!((accepted.first_seq, accepted.position.log_seq), (SEEN as u64, SEEN as u64));
    let durable = service.submit(request(&events[1..2], Ack::Durable)).unwrap();
    let applied = service.submit(request(&events[2..], Ack::Applied)).unwrap();
    assert_eq!(service.wait_for(SEEN as u64 + 1, std::time::Instant::now() + Duration::from_millis(30)), None);
    assert_eq!((service.durable_seq(), service.engine().position().log_seq), (SEEN as u64, SEEN as u64));
    log.hold(false);
    assert_eq!(durable.wait().unwrap().first_seq, SEEN as u64 + 1);
    assert!(service.durable_seq() >= SEEN as u64 + 2);
    assert_eq!(applied.wait().unwrap().position.log_seq, SEEN as u64 + 3);
    assert_eq!(service.engine().position().log_seq, SEEN as u64 + 3);
}

#[test]
fn many_who_wait_share_a_flush() {
    let world = World::new(&small(), 0);
    world.engine();
    let log = Arc::new(ScriptedLog::default());
    let service = with_log(&world.folder(), &in_memory(), log.clone());
    log.hold(true);
    let tickets: Vec<_> = world
        .new_events(SEEN..EVENTS)
        .chunks(1)
        .map(|event| service.submit(request(event, Ack::Durable)).unwrap())
        .collect();
    log.hold(false);
    let count = tickets.len();
    tickets.into_iter().for_each(|ticket| assert_eq!(ticket.wait().unwrap().accepted, 1));
    let groups = service.status().groups;
    assert!(groups <= 2, "{count} requests took {groups} flushes");
}

#[test]
fn a_late_event_is_refused_by_name_and_takes_its_request_with_it() {
    let world = World::new(&small(), 0);
    world.engine();
    let service = open(&world.folder(), &in_memory());
    let mut events = world.new_events(SEEN..SEEN + 3);
    events[2].time = world.time(7);
    let Err(IngestError::Refused(RequestError::Late { place, .. })) = ingest(&service, &events) else {
        panic!("a late event was taken")
    };
    assert_eq!((place.as_str(), service.status().late_refused), ("events[2].time", 1));
    // Enqueued events count as seen, and refused ones do not.
    ingest(&service, &world.new_events(SEEN..SEEN + 2)).unwrap();
    assert_eq!(service.position().log_seq, SEEN as u64 + 2);
}

#[test]
fn with_apply_now_a_late_event_is_applied_at_the_newest_time_in_every_run() {
    let world = World::new(&small(), 2);
    let engine = world.engine();
    let spec = ServiceSpec { late: Late::ApplyNow, ..without_snapshots() };
    let service = open(&world.folder(), &spec);
    let on_time = world.new_events(SEEN..SEEN + 10);
    let late = NewEvent { time: world.time(3), ..on_time[4].clone() };
    ingest(&service, &on_time[..5]).unwrap();
    let receipt = ingest(&service, &[late.clone(), on_time[5].clone()]).unwrap();
    assert_eq!((receipt.late, receipt.accepted, service.status().late), (1, 2, 1));
    let now = NewEvent { time: on_time[4].time.clone(), ..late };
    engine.observe(&[&on_time[..5], &[now], &on_time[5..6]].concat(), Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
    drop(service);
    // A later policy does not change what was applied.
    assert_eq!(saved(&open(&world.folder(), &without_snapshots()).engine()), saved(&engine));
}

#[test]
fn a_full_line_refuses_and_says_so() {
    let world = World::new(&small(), 0);
    world.engine();
    let log = Arc::new(ScriptedLog::default());
    let spec = ServiceSpec { log: LogSpec { queue: 8, ..in_memory().log }, ..in_memory() };
    let service = with_log(&world.folder(), &spec, log.clone());
    let events = world.new_events(SEEN..SEEN + 12);
    log.hold(true);
    let tickets: Vec<_> =
        events[..8].chunks(4).map(|four| service.submit(request(four, Ack::Applied)).unwrap()).collect();
    let refused = service.submit(request(&events[8..9], Ack::Applied)).unwrap_err();
    assert_eq!(refused, IngestError::Full { queued: 8, most: 8 });
    assert_eq!(refused.to_string(), "8 events wait to be logged and applied, and there is room for 8; try again later");
    log.hold(false);
    tickets.into_iter().for_each(|ticket| assert_eq!(ticket.wait().unwrap().accepted, 4));
    assert_eq!(ingest(&service, &events[8..]).unwrap().position.log_seq, SEEN as u64 + 12);
    assert_eq!(service.status().full, 1);
}

#[test]
fn events_that_will_not_do_are_named_before_they_are_written() {
    let world = World::new(&small(), 2);
    world.engine();
    let service = open(&world.folder(), &in_memory());
    let good = world.new_events(SEEN..SEEN + 2);
    type Edit = fn(&mut NewEvent);
    let cases: [(Edit, String); 5] = [
        (|event| event.features = None, "events[1].features is missing".into()),
        (|event| event.features = Some(vec![1.0]), "events[1].features has 1 values where this model reads 2".into()),
        (|event| event.label = f32::NAN, "events[1].label is not a finite".into()),
        (|event| event.id = Some(String::new()), "events[1].id is empty".into()),
        (|event| event.id = Some("x".repeat(65)), format!("events[1].id has 65 bytes; an id may have {LONGEST_ID}")),
    ];
    for (edit, expected) in cases {
        let mut events = good.clone();
        edit(&mut events[1]);
        let error = ingest(&service, &events).unwrap_err().to_string();
        assert!(error.contains(&expected), "`{error}` does not say `{expected}`");
    }
    assert_eq!((service.position().log_seq, service.status().refused), (SEEN as u64, 5));
}

#[test]
fn a_full_disk_refuses_events_and_answers_reads_until_there_is_room() {
    let world = World::new(&small(), 0);
    let engine = world.engine();
    let log = Arc::new(ScriptedLog::default());
    let service = with_log(&world.folder(), &in_memory(), log.clone());
    let events = with_ids(world.new_events(SEEN..SEEN + 30));
    ingest(&service, &events[..10]).unwrap();
    log.full.store(true, Ordering::Relaxed);
    log.hold(true);
    let tickets: Vec<_> =
        events[10..14].chunks(1).map(|event| service.submit(request(event, Ack::Durable)).unwrap()).collect();
    log.hold(false);
    for ticket in tickets {
        let error = ticket.wait().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the log of record scripted cannot be used: No space left on device (os error 28)"
        );
    }
    // Even events with the lowest acknowledgement are refused now.
    assert!(matches!(service.ingest(request(&events[10..11], Ack::Accepted)), Err(IngestError::Log(_))));
    assert!(service.status().log_failing);
    assert_eq!((service.readiness(), service.position().log_seq), (Readiness::Ready, SEEN as u64 + 10));
    assert_eq!(
        service.engine().score(&world.queries(SEEN + 9..SEEN + 10), &[]).unwrap().position.log_seq,
        SEEN as u64 + 10
    );
    log.full.store(false, Ordering::Relaxed);
    let receipt = ingest_with_retry(&service, &events[10..]).unwrap();
    assert_eq!((receipt.first_seq, receipt.accepted, receipt.duplicates), (SEEN as u64 + 10, 20, 0));
    assert!(!service.status().log_failing);
    engine.observe(&events, Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
}

#[test]
fn events_of_a_failed_write_that_are_found_in_the_log_are_applied_once_however_often_they_are_submitted() {
    let world = World::new(&small(), 0);
    let engine = world.engine();
    let log = Arc::new(ScriptedLog::default());
    let service = with_log(&world.folder(), &in_memory(), log.clone());
    let events = with_ids(world.new_events(SEEN..SEEN + 30));
    ingest(&service, &events[..10]).unwrap();
    log.keeps_failed.store(true, Ordering::Relaxed);
    log.full.store(true, Ordering::Relaxed);
    assert!(ingest(&service, &events[10..15]).is_err());
    log.full.store(false, Ordering::Relaxed);
    let receipt = ingest_with_retry(&service, &events[10..20]).unwrap();
    assert_eq!((receipt.accepted, receipt.duplicates, receipt.position.log_seq), (5, 5, SEEN as u64 + 20));
    ingest(&service, &events).unwrap();
    engine.observe(&events, Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
    assert_eq!(service.status().queued, 0);
}

#[test]
fn a_retraction_of_a_failed_write_that_is_found_in_the_log_is_applied_and_lateness_is_unchanged() {
    let world = World::new(&small(), 0);
    let engine = world.engine();
    let log = Arc::new(ScriptedLog::default());
    let service = with_log(&world.folder(), &in_memory(), log.clone());
    let events = with_ids(world.new_events(SEEN..SEEN + 30));
    ingest(&service, &events[..20]).unwrap();
    log.keeps_failed.store(true, Ordering::Relaxed);
    log.full.store(true, Ordering::Relaxed);
    assert!(service.retract(&["event-19".into()]).is_err());
    log.full.store(false, Ordering::Relaxed);
    // Until the retraction appears in the log.
    while !ingest(&service, &events[20..]).unwrap_err().to_string().contains("submit these again") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let late = NewEvent { id: None, ..events[0].clone() };
    assert!(matches!(ingest_with_retry(&service, &[late]), Err(IngestError::Refused(RequestError::Late { .. }))));
    ingest_with_retry(&service, &events[20..]).unwrap();
    engine.observe(&events[..20], Granularity::Event).unwrap();
    engine
        .retract(&[Retraction { seq: SEEN as u64 + 19, src: events[19].src.clone(), dst: events[19].dst.clone() }])
        .unwrap();
    engine.observe(&events[20..], Granularity::Event).unwrap();
    assert_eq!((service.readiness(), saved(&service.engine())), (Readiness::Ready, saved(&engine)));
}

#[test]
fn tickets_can_be_awaited() {
    let world = World::new(&small(), 0);
    world.engine();
    let service = open(&world.folder(), &in_memory());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let receipt = runtime.block_on(async {
        let ticket = service.submit(request(&world.new_events(SEEN..SEEN + 5), Ack::Durable)).unwrap();
        let position = service.reach(SEEN as u64 + 5).await;
        assert_eq!(position.log_seq, SEEN as u64 + 5);
        ticket.await.unwrap()
    });
    assert_eq!(receipt.accepted, 5);
}

#[test]
fn a_draining_service_accepts_nothing_and_finishes_what_it_accepted() {
    let world = World::new(&small(), 0);
    world.engine();
    let service = open(&world.folder(), &without_snapshots());
    let tickets: Vec<_> = world
        .new_events(SEEN..SEEN + 50)
        .chunks(1)
        .map(|event| service.submit(request(event, Ack::Applied)).unwrap())
        .collect();
    assert!(service.drain(soon()));
    tickets.into_iter().for_each(|ticket| assert_eq!(ticket.wait().unwrap().accepted, 1));
    let error = ingest(&service, &world.new_events(SEEN + 50..SEEN + 51)).unwrap_err();
    assert_eq!(error.to_string(), "no events are taken: the server is draining");
    assert!(service.snapshot().is_err());
}

#[test]
fn batches_of_training_are_replayed_as_batches() {
    let world = World::new(&small(), 3);
    let engine = world.engine();
    let service = open(&world.folder(), &without_snapshots());
    for batch in common::batches(common::BATCH) {
        let events = world.new_events(batch);
        engine.observe(&events, Granularity::Batch).unwrap();
        service
            .ingest(IngestRequest {
                events,
                granularity: Granularity::Batch,
                ack: Ack::Applied,
                on_error: OnError::Abort,
            })
            .unwrap();
    }
    drop(service);
    assert_eq!(saved(&open(&world.folder(), &without_snapshots()).engine()), saved(&engine));
}

#[test]
fn a_service_whose_settings_make_no_sense_says_which() {
    let world = World::new(&small(), 0);
    world.engine();
    let spec = ServiceSpec { log: LogSpec { group: 0, ..LogSpec::default() }, ..without_snapshots() };
    assert_eq!(Service::open(&world.folder(), &spec).unwrap_err().to_string(), "log.group is 0; it must be at least 1");
    let error = toml::from_str::<ServiceSpec>("[log]\nkindness = 1").unwrap_err().to_string();
    assert!(error.contains("unknown field `kindness`"), "{error}");
}

#[test]
fn a_retraction_survives_a_restart_with_and_without_a_snapshot() {
    let world = World::new(&small(), 2);
    let engine = world.engine();
    let events = with_ids(world.new_events(SEEN..EVENTS));
    let ids: Vec<String> = [3, 17, 39].map(|i| format!("event-{i}")).to_vec();
    let service = open(&world.folder(), &without_snapshots());
    ingest(&service, &events[..40]).unwrap();
    assert_eq!(service.retract(&ids).unwrap().position.log_seq, SEEN as u64 + 40);
    let snapshot = service.snapshot().unwrap();
    assert_eq!(service.retract(&ids).unwrap().retracted, 0, "they are taken back already");
    ingest(&service, &events[40..]).unwrap();
    let error = service.retract(&["event-3".into(), "nobody".into()]).unwrap_err().to_string();
    assert_eq!(error, "ids[1] is `nobody`, and the log of record remembers no event under that id");
    engine.observe(&events[..40], Granularity::Event).unwrap();
    let taken = [3usize, 17, 39].map(|i| Retraction {
        seq: (SEEN + i) as u64,
        src: events[i].src.clone(),
        dst: events[i].dst.clone(),
    });
    assert!(engine.retract(&taken).unwrap().answer > 0);
    engine.observe(&events[40..], Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
    drop(service);
    assert_eq!(saved(&open(&world.folder(), &without_snapshots()).engine()), saved(&engine), "from the snapshot");
    let shelf = world.folder().with_file_name("artifact.snapshots");
    std::fs::remove_dir_all(shelf.join(snapshot.number.to_string())).unwrap();
    assert_eq!(saved(&open(&world.folder(), &without_snapshots()).engine()), saved(&engine), "from the log");
}

#[test]
fn idle_nodes_are_forgotten_in_the_same_place_after_a_restart_whatever_the_settings_are_then() {
    let world = World::new(&small(), 2);
    let engine = world.engine();
    let spec = ServiceSpec { engine: EngineSpec { ttl: Some(20.0), ..EngineSpec::default() }, ..without_snapshots() };
    let service = open(&world.folder(), &spec);
    let missing = "before is missing, and the settings have no `engine.ttl`";
    ingest(&service, &world.new_events(SEEN..SEEN + 60)).unwrap();
    let before = service.engine().overdue().unwrap();
    let forgotten = service.expire(None).unwrap().forgotten;
    ingest(&service, &world.new_events(SEEN + 60..EVENTS)).unwrap();
    engine.observe(&world.new_events(SEEN..SEEN + 60), Granularity::Event).unwrap();
    assert_eq!(engine.expire(&before).unwrap().answer as u64, forgotten);
    assert!(forgotten > 0, "nobody was idle");
    engine.observe(&world.new_events(SEEN + 60..EVENTS), Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
    drop(service);
    let service = open(&world.folder(), &without_snapshots());
    assert_eq!(saved(&service.engine()), saved(&engine));
    assert_eq!(service.expire(None).unwrap_err().to_string(), missing);
}

#[test]
fn a_running_server_forgets_idle_nodes_by_itself_and_a_replay_forgets_the_same() {
    /// More events than between two searches for idle nodes.
    const TOLD: usize = 12_500;
    let set = Dataset::from_spec("synthetic:events=13000,users=3000,items=2000").unwrap();
    let world = World::of(&small(), set);
    world.engine();
    let unit = |event| world.time(event).as_f64().unwrap();
    let text = format!(
        "[engine]\nttl = {}\n[snapshots]\nevery_events = 0\nat_drain = false\n",
        (unit(TOLD) - unit(SEEN)) / 8.0
    );
    let spec = ServeSpec::parse(&text, &[]).unwrap();
    let mut server = Running::of(open(&world.folder(), &spec.service()), &spec);
    let expired = |server: &Running| server.get("/v1/status").1["engine"]["expired"].as_u64().unwrap();
    for request in world.new_events(SEEN..SEEN + TOLD).chunks(500) {
        server.ingest(request, "event");
    }
    // The search after the last event may still be in the queue.
    let deadline = soon();
    while expired(&server) == 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let forgotten = expired(&server);
    assert!(forgotten > 0, "nobody was idle");
    let before = saved(&server.service.engine());
    server.ask_to_stop();
    server.wait().unwrap();
    drop(server);
    // Only the log has the expiries: these settings have no time to live.
    let replayed = open(&world.folder(), &without_snapshots());
    assert_eq!(replayed.engine().stats().expired, forgotten);
    assert_eq!(saved(&replayed.engine()), before);
}

#[test]
fn events_wait_for_a_part_of_a_look_for_idle_nodes_and_a_replay_does_the_same_in_between() {
    /// Nodes searched in one part.
    const PART: u32 = 8192;
    let set = Dataset::from_spec("synthetic:events=2000,users=10000,items=10000").unwrap();
    let world = World::of(&small(), set);
    world.engine();
    let log = Arc::new(ScriptedLog::default());
    let service = with_log(&world.folder(), &without_snapshots(), log.clone());
    ingest(&service, &world.new_events(SEEN..1500)).unwrap();
    let begun = log.begun.load(Ordering::SeqCst);
    log.hold(true);
    let forgotten = std::thread::scope(|scope| {
        let looking = scope.spawn(|| service.expire(Some(&world.time(1200))).unwrap().forgotten);
        while log.begun.load(Ordering::SeqCst) == begun {
            std::thread::yield_now();
        }
        // The first part is being appended, and this event is enqueued after it.
        let submitted = service.submit(request(&world.new_events(1500..1501), Ack::Applied)).unwrap();
        log.hold(false);
        submitted.wait().unwrap();
        looking.join().unwrap()
    });
    ingest(&service, &world.new_events(1501..2000)).unwrap();
    let acts: Vec<Mutation> = log.inner.read(1, usize::MAX).unwrap().into_iter().map(|entry| entry.mutation).collect();
    let [
        Mutation::Expire { nodes: first, .. },
        Mutation::Events { .. },
        Mutation::Expire { nodes: second, .. },
        Mutation::Expire { nodes: third, .. },
        Mutation::Events { .. },
    ] = &acts[..]
    else {
        panic!("{acts:?}")
    };
    assert_eq!([first, second, third], [&(0..PART), &(PART..2 * PART), &(2 * PART..3 * PART)]);
    let engine = service.engine();
    assert_eq!((engine.stats().most_looked_at, engine.stats().expired), (u64::from(PART), forgotten));
    assert!(forgotten > 0, "nobody was idle");
    drop(service);
    let replayed = with_log(&world.folder(), &without_snapshots(), log);
    assert_eq!(replayed.engine().stats().expired, forgotten);
    assert_eq!(saved(&replayed.engine()), saved(&engine));
}
