//! The times of events: none is too far ahead, none ends the stream, and those that come out of order may wait.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::grpc::Grpc;
use common::service::{
    ScriptedLog, in_memory, ingest, open, request, saved, soon, with_ids, with_log, without_snapshots,
};
use common::{EVENTS, Running, SEEN, World, small};
use serde_json::json;
use tempograph_framework::{Draw, Purpose};
use tempograph_serving::proto::tempograph as message;
use tempograph_serving::{
    Ack, Engine, EventClock, EventTimeSpec, Granularity, IngestError, IngestRequest, Late, LogSpec, NewEvent, OnError,
    RequestError, Service, ServiceSpec, SnapshotSpec,
};

const FAR: i64 = i64::MAX / 4;

fn at(event: &NewEvent, time: impl Into<serde_json::Number>) -> NewEvent {
    NewEvent { time: time.into(), ..event.clone() }
}

fn one_by_one(events: &[NewEvent]) -> IngestRequest {
    IngestRequest { on_error: OnError::Continue, ..request(events, Ack::Applied) }
}

#[test]
fn an_event_from_the_far_future_is_refused_and_the_stream_goes_on() {
    let world = World::new(&small(), 0);
    world.engine();
    let service = open(&world.folder(), &in_memory());
    let events = world.new_events(SEEN..SEEN + 4);
    let newest = events[0].time.as_f64().unwrap();
    for time in [FAR, (newest * 1e3) as i64, (newest * 1e6) as i64] {
        let Err(IngestError::Refused(RequestError::Ahead(ahead))) =
            ingest(&service, &[events[0].clone(), at(&events[1], time)])
        else {
            panic!("{time} was accepted")
        };
        assert_eq!(ahead.place, "events[1].time");
    }
    assert_eq!(ingest(&service, &events).unwrap().accepted, 4);
}

#[test]
fn a_bound_that_is_said_holds_and_0_is_none() {
    let world = World::new(&small(), 0);
    world.engine();
    let events = world.new_events(SEEN..SEEN + 2);
    let newest = events[0].time.as_f64().unwrap();
    let with = |event_time| ServiceSpec { event_time, ..in_memory() };
    let tight = EventTimeSpec { max_ahead: Some(1e5), ..EventTimeSpec::default() };
    let service = open(&world.folder(), &with(tight));
    ingest(&service, &events[..1]).unwrap();
    assert!(ingest(&service, &[at(&events[1], newest as i64 + 100_001)]).is_err());
    let none = EventTimeSpec { max_ahead: Some(0.0), clock: EventClock::None, ..EventTimeSpec::default() };
    let service = open(&world.folder(), &with(none));
    assert_eq!(ingest(&service, &[at(&events[1], FAR)]).unwrap().accepted, 1);
    // These are years after any clock.
    let clock = EventTimeSpec { clock: EventClock::Nanoseconds, ..EventTimeSpec::default() };
    let service = open(&world.folder(), &with(clock));
    let error = ingest(&service, &[at(&events[1], i64::MAX)]).unwrap_err().to_string();
    assert!(error.contains("the server's clock in nanoseconds"), "{error}");
}

#[test]
fn events_are_refused_one_by_one_into_a_list_to_look_at_send_again_and_forget() {
    let world = World::new(&small(), 2);
    world.engine();
    let service = open(&world.folder(), &without_snapshots());
    let good = with_ids(world.new_events(SEEN..SEEN + 6));
    let mut bad = good.clone();
    bad[1].time = FAR.into();
    bad[2].features = None;
    bad[4].time = world.time(3);
    let ticket = service.submit(one_by_one(&bad)).unwrap();
    let refused: Vec<usize> = ticket.refusals().iter().map(|refusal| refusal.index).collect();
    let receipt = ticket.wait().unwrap();
    assert_eq!((receipt.accepted, receipt.refused, receipt.duplicates), (3, 3, 0));
    // The missing features are found before any time is looked at.
    assert_eq!(refused.iter().copied().collect::<std::collections::BTreeSet<_>>(), [1, 2, 4].into());
    let listed = service.refused(0, 10);
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|kept| bad.contains(&kept.event)));
    assert!(listed.iter().any(|kept| kept.error.contains("before") && kept.event.id.as_deref() == Some("event-4")));
    // A restart loses none of them.
    drop(service);
    let service = open(&world.folder(), &without_snapshots());
    assert_eq!(service.refused(0, 10), listed);
    let again = service.resend_refused(None).unwrap();
    assert_eq!((again.accepted, again.refused, service.refused(0, 10).len()), (0, 3, 3));
    drop(service);
    // Under another policy the late one is accepted, and leaves the list.
    let service = open(&world.folder(), &ServiceSpec { late: Late::ApplyNow, ..without_snapshots() });
    let again = service.resend_refused(None).unwrap();
    assert_eq!((again.accepted, again.refused), (1, 2));
    assert_eq!(service.position().log_seq, SEEN as u64 + 4);
    assert_eq!(service.forget_refused(Some(&[0, 1, 2, 77])).unwrap(), 2);
    assert_eq!((service.refused(0, 10).len(), service.status().refused_list.kept), (0, 0));
}

#[test]
fn the_list_of_refused_events_is_served_over_both_protocols() {
    let world = World::new(&small(), 0);
    let server = Running::start(&world);
    let mut events = world.new_events(SEEN..SEEN + 3);
    events[1].time = FAR.into();
    let (status, answer) = server.post("/v1/events", &json!({ "events": events }));
    assert_eq!((status, &answer["code"]), (422, &json!("ahead")), "{answer}");
    let (status, answer) = server.post("/v1/events", &json!({ "events": events, "on_error": "continue" }));
    assert_eq!((status, &answer["accepted"], &answer["refused"]), (200, &json!(2), &json!(1)), "{answer}");
    assert_eq!(answer["refusals"][0]["index"], 1);
    let (_, listed) = server.get("/v1/refused?from=0&limit=5");
    assert_eq!((&listed["kept"], &listed["events"][0]["event"]["time"]), (&json!(1), &json!(FAR)));
    let (_, sent) = server.post("/v1/refused/resend", &json!({ "numbers": [0] }));
    assert_eq!((&sent["accepted"], &sent["refused"]), (&json!(0), &json!(1)), "{sent}");
    let mut grpc = Grpc::connect(server.address);
    let asked = || message::RefusedRequest { from: 0, limit: 0 };
    let listed = grpc.events(async |mut events| events.refused(asked()).await).unwrap();
    assert_eq!((listed.kept, listed.events[0].number), (1, 0));
    let neither = message::RefusedNumbers { numbers: Vec::new(), all: false };
    assert!(grpc.events(async |mut events| events.forget(neither).await).is_err());
    let all = || message::RefusedNumbers { numbers: Vec::new(), all: true };
    assert_eq!(grpc.events(async |mut events| events.resend(all()).await).unwrap().refused, 1);
    assert_eq!(grpc.events(async |mut events| events.forget(all()).await).unwrap().forgotten, 1);
    let stream: String = events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    let (status, sum) = server.send("POST", "/v1/events/stream?on_error=continue", &stream);
    // The first is late by now, too.
    assert_eq!((status, &sum["accepted"], &sum["refused"]), (200, &json!(1), &json!(2)), "{sum}");
}

#[test]
fn a_far_event_that_is_in_already_is_retracted_and_the_stream_goes_on_as_if_it_had_never_come() {
    for on_the_disk in [false, true] {
        let world = World::new(&small(), 2);
        let engine = world.engine();
        let anything = EventTimeSpec { max_ahead: Some(0.0), ..EventTimeSpec::default() };
        let spec = ServiceSpec { event_time: anything, ..if on_the_disk { without_snapshots() } else { in_memory() } };
        let service = open(&world.folder(), &spec);
        let events = world.new_events(SEEN..SEEN + 40);
        ingest(&service, &events[..10]).unwrap();
        let far = ingest(&service, &[at(&events[10], FAR)]).unwrap().first_seq;
        // Of other nodes: an event of the same ones would read the mail of the first into their memories.
        let ends = [events[10].src.clone(), events[10].dst.clone()];
        let other = events.iter().find(|event| !ends.contains(&event.src) && !ends.contains(&event.dst)).unwrap();
        ingest(&service, &[at(other, FAR + 10)]).unwrap();
        assert!(ingest(&service, &events[10..11]).is_err(), "all later events are late");
        // One of two: the other still is the newest.
        let retract = |seqs: &[u64]| service.submit_retraction(&[], seqs).unwrap().wait().unwrap().accepted;
        assert_eq!(retract(&[far]), 1);
        assert!(ingest(&service, &events[10..11]).is_err());
        assert_eq!(retract(&[far + 1]), 1);
        assert!(service.submit_retraction(&[], &[far + 2]).is_err(), "there is no such event");
        assert_eq!(ingest(&service, &events[10..20]).unwrap().accepted, 10);
        engine.observe(&events[..20], Granularity::Event).unwrap();
        let queries = world.queries(SEEN + 20..SEEN + 40);
        let scores = |engine: &Engine| engine.score(&queries, &[]).unwrap().answer;
        assert_eq!(scores(&service.engine()), scores(&engine));
        if on_the_disk {
            drop(service);
            let service = open(&world.folder(), &without_snapshots());
            assert_eq!(scores(&service.engine()), scores(&engine));
            assert_eq!(ingest(&service, &events[20..]).unwrap().accepted, 20);
        }
    }
}

/// A window that holds some events, in the unit of the times.
fn window(world: &World, events: usize) -> f64 {
    let time = world.set.log.time();
    let ticks = (SEEN + events..EVENTS).map(|i| time[i].0 - time[i - events].0).max().unwrap();
    ticks.max(1) as f64 / world.set.time_unit.scale as f64
}

fn waiting(window: f64) -> EventTimeSpec {
    EventTimeSpec { window, max_wait_ms: 3_600_000, ..EventTimeSpec::default() }
}

/// The events out of order, each by less than the window.
fn shuffled(events: &[NewEvent], window: f64, seed: u64) -> Vec<NewEvent> {
    let mut chance = Draw::new(seed).of(Purpose::Sampling).at(0, 0);
    let mut keyed: Vec<(f64, &NewEvent)> = events
        .iter()
        .map(|event| (event.time.as_f64().unwrap() + 0.99 * window * chance.uniform_f64(), event))
        .collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    keyed.into_iter().map(|(_, event)| event.clone()).collect()
}

fn sorted(events: &[NewEvent]) -> Vec<NewEvent> {
    let mut sorted = events.to_vec();
    sorted.sort_by(|a, b| a.time.as_f64().unwrap().total_cmp(&b.time.as_f64().unwrap()));
    sorted
}

#[test]
fn a_stream_out_of_order_is_the_sorted_stream_to_the_bit_through_restarts_snapshots_and_a_log_that_is_cut() {
    for (seed, cut) in [(1, false), (2, true), (3, true)] {
        let world = World::new(&small(), 3);
        let engine = world.engine();
        let window = window(&world, 12);
        let events = shuffled(&with_ids(world.new_events(SEEN..EVENTS)), window, seed);
        assert_ne!(events, sorted(&events));
        let log = LogSpec { keep_events: cut.then_some(0), ..LogSpec::default() };
        let every_events = if cut { 7 } else { 0 };
        let snapshots = SnapshotSpec { every_events, keep: 1, ..without_snapshots().snapshots };
        let spec = ServiceSpec { late: Late::Wait, event_time: waiting(window), log, snapshots, ..without_snapshots() };
        let mut service = open(&world.folder(), &spec);
        for (i, part) in events.chunks(5).enumerate() {
            let receipt = ingest(&service, part).unwrap();
            assert_eq!((receipt.accepted, receipt.waiting), (5, 5));
            if i % 4 == 1 {
                let waited = service.status().waiting;
                assert!(waited > 0);
                if i % 8 == 1 {
                    service.snapshot().unwrap();
                }
                drop(service);
                service = open(&world.folder(), &spec);
                assert_eq!(service.status().waiting, waited, "the same events wait after a restart");
                // Those that wait are known by their ids.
                assert_eq!(ingest(&service, part).unwrap().duplicates, 5);
            }
        }
        let applied = service.position().log_seq as usize - SEEN;
        assert!((60..120).contains(&applied), "{applied} are applied");
        drop(service);
        // A server without a window applies what waits.
        let service = open(&world.folder(), &without_snapshots());
        service.wait_for(EVENTS as u64, soon()).unwrap();
        engine.observe(&sorted(&events), Granularity::Event).unwrap();
        assert_eq!(saved(&service.engine()), saved(&engine));
        // With the events, a cut log forgets their ids.
        assert!(cut || ingest(&service, &events).unwrap().duplicates == events.len() as u64);
    }
}

#[test]
fn waiting_events_survive_failed_writes() {
    let world = World::new(&small(), 0);
    let engine = world.engine();
    let window = window(&world, 12);
    let events = shuffled(&with_ids(world.new_events(SEEN..EVENTS)), window, 7);
    let log = Arc::new(ScriptedLog::default());
    let spec = ServiceSpec { late: Late::Wait, event_time: waiting(window), ..in_memory() };
    let service = with_log(&world.folder(), &spec, log.clone());
    for (i, part) in events.chunks(6).enumerate() {
        log.full.store(i % 3 == 1, Ordering::Relaxed);
        log.keeps_failed.store(i % 6 == 1, Ordering::Relaxed);
        let first = ingest(&service, part);
        // What is found of a write that had failed refuses the next request, too.
        assert!(first.is_err() || i % 3 != 1, "{first:?}");
        log.full.store(false, Ordering::Relaxed);
        let all = common::service::ingest_with_retry(&service, part).unwrap();
        assert_eq!(all.accepted + all.duplicates, 6);
    }
    let end = at(&events[0], events.iter().map(|event| event.time.as_f64().unwrap() as i64).max().unwrap() + 1);
    let end = NewEvent { id: None, ..at(&end, (end.time.as_f64().unwrap() + window + 1.0) as i64) };
    common::service::ingest_with_retry(&service, &[end]).unwrap();
    service.wait_for(EVENTS as u64, soon()).unwrap();
    engine.observe(&sorted(&events), Granularity::Event).unwrap();
    assert_eq!(saved(&service.engine()), saved(&engine));
}

#[test]
fn an_event_waits_no_longer_than_the_clock_allows_and_no_more_wait_than_may() {
    let world = World::new(&small(), 0);
    world.engine();
    let events = world.new_events(SEEN..EVENTS);
    let quick = EventTimeSpec { max_wait_ms: 60, ..waiting(1e9) };
    let service = open(&world.folder(), &ServiceSpec { late: Late::Wait, event_time: quick, ..in_memory() });
    ingest(&service, &events[..10]).unwrap();
    assert_eq!(service.status().waiting, 10);
    assert!(service.wait_for(SEEN as u64 + 10, soon()).is_some());
    let few = EventTimeSpec { max_waiting: 16, ..waiting(1e9) };
    let service = open(&world.folder(), &ServiceSpec { late: Late::Wait, event_time: few, ..in_memory() });
    ingest(&service, &events[..50]).unwrap();
    assert!(service.wait_for(SEEN as u64 + 34, soon()).is_some());
    assert_eq!(service.status().waiting, 16);
}

#[test]
fn an_event_that_waits_can_be_retracted_and_does_not_hold_the_watermark_up() {
    let world = World::new(&small(), 0);
    let engine = world.engine();
    let window = window(&world, 12);
    let events = with_ids(world.new_events(SEEN..EVENTS));
    let any = EventTimeSpec { max_ahead: Some(0.0), ..waiting(window) };
    let spec = ServiceSpec { late: Late::Wait, event_time: any, ..without_snapshots() };
    let service = open(&world.folder(), &spec);
    ingest(&service, &events[..30]).unwrap();
    let far = NewEvent { id: Some("far".into()), ..at(&events[30], FAR) };
    ingest(&service, &[far]).unwrap();
    service.wait_for(SEEN as u64 + 30, soon()).unwrap();
    assert_eq!(service.status().waiting, 1, "all others are older than the far one by the window");
    assert_eq!(service.retract(&["far".into()]).unwrap().retracted, 1);
    assert_eq!(service.status().waiting, 0);
    ingest(&service, &events[30..40]).unwrap();
    assert!(service.status().waiting > 0, "the window is that of the newest event again");
    drop(service);
    let service = open(&world.folder(), &without_snapshots());
    service.wait_for(SEEN as u64 + 40, soon()).unwrap();
    engine.observe(&events[..40], Granularity::Event).unwrap();
    let queries = world.queries(SEEN + 40..SEEN + 60);
    let scores = |engine: &Engine| engine.score(&queries, &[]).unwrap().answer;
    assert_eq!(scores(&service.engine()), scores(&engine));
}

#[test]
fn an_event_older_than_what_is_applied_is_refused_though_events_wait() {
    let world = World::new(&small(), 0);
    world.engine();
    let window = window(&world, 12);
    let spec = ServiceSpec { late: Late::Wait, event_time: waiting(window), ..in_memory() };
    let service = open(&world.folder(), &spec);
    let events = world.new_events(SEEN..EVENTS);
    ingest(&service, &events[..60]).unwrap();
    let late = |outcome| matches!(outcome, Err(IngestError::Refused(RequestError::Late { .. })));
    assert!(late(ingest(&service, &events[2..3])));
    let batch = IngestRequest { granularity: Granularity::Batch, ..request(&events[60..62], Ack::Applied) };
    assert!(service.ingest(batch).unwrap_err().to_string().contains("granularity"));
    let spec = ServiceSpec { late: Late::Wait, ..in_memory() };
    assert!(Service::open(&world.folder(), &spec).unwrap_err().to_string().contains("event_time.window"));
}
