//! Reads through the scheduler have the answers of the engine, and are in time or refused.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::service::{in_memory, ingest, open};
use common::{EVENTS, SEEN, World, small};
use tempograph_serving::{
    Ack, AnswerBody, ExternalId, Granularity, IngestRequest, OnError, PairQuery, Policy, RankQuery, ReadError,
    ReadOptions, ReadRequest, RequestError, Scheduler, SchedulerSpec, Service,
};
use tokio::runtime::Runtime;

struct Setting {
    world: World,
    service: Arc<Service>,
    scheduler: Arc<Scheduler>,
    runtime: Runtime,
}

fn setting(spec: &SchedulerSpec) -> Setting {
    let world = World::new(&small(), 0);
    world.engine();
    let service = open(&world.folder(), &in_memory());
    let scheduler = Arc::new(Scheduler::start(service.clone(), spec).unwrap());
    Setting { world, service, scheduler, runtime: Runtime::new().unwrap() }
}

fn score(queries: &[PairQuery]) -> ReadRequest {
    ReadRequest::Score { queries: queries.to_vec(), during: Vec::new() }
}

fn within(millis: u64) -> ReadOptions {
    ReadOptions { deadline: Some(Instant::now() + Duration::from_millis(millis)), ..ReadOptions::default() }
}

impl Setting {
    fn submit(
        &self,
        read: ReadRequest,
        options: ReadOptions,
    ) -> tokio::task::JoinHandle<Result<tempograph_serving::Answer, ReadError>> {
        let scheduler = self.scheduler.clone();
        self.runtime.spawn(async move { scheduler.submit(read, options).await })
    }

    fn read(&self, read: ReadRequest, options: ReadOptions) -> Result<tempograph_serving::Answer, ReadError> {
        self.runtime.block_on(self.submit(read, options)).unwrap()
    }
}

#[test]
fn concurrent_reads_are_answered_as_each_would_be_by_itself() {
    for policy in [Policy::Deadline, Policy::Fifo] {
        let setting = setting(&SchedulerSpec { policy, ..SchedulerSpec::default() });
        let engine = setting.service.engine();
        let questions = setting.world.queries(SEEN..EVENTS);
        let asked: Vec<_> =
            questions.chunks(3).map(|part| (part, setting.submit(score(part), within(20_000)))).collect();
        for (part, answer) in asked {
            let answer = setting.runtime.block_on(answer).unwrap().unwrap();
            assert_eq!(answer.body, AnswerBody::Scores(engine.score(part, &[]).unwrap().answer));
            assert_eq!((answer.position, &*answer.model), (engine.position(), &*engine.manifest().model_version()));
        }
        let rank = RankQuery { src: 1.into(), candidates: None, time: None, k: 5 };
        assert_eq!(
            setting.read(ReadRequest::Rank(rank.clone()), within(20_000)).unwrap().body,
            AnswerBody::Ranked(engine.rank(&rank).unwrap().answer)
        );
    }
}

#[test]
fn a_bad_read_is_refused_and_those_in_its_batch_are_answered() {
    let setting = setting(&SchedulerSpec::default());
    let good = PairQuery { src: 1.into(), dst: 2.into(), time: None };
    let bad = PairQuery { src: 99.into(), dst: 2.into(), time: None };
    let asked: Vec<_> = (0..40)
        .map(|i| (i % 7 == 3, if i % 7 == 3 { vec![good.clone(), bad.clone()] } else { vec![good.clone()] }))
        .map(|(is_bad, queries)| (is_bad, setting.submit(score(&queries), within(20_000))))
        .collect();
    for (is_bad, answer) in asked {
        match setting.runtime.block_on(answer).unwrap() {
            Ok(answer) => assert!(!is_bad && matches!(answer.body, AnswerBody::Scores(scores) if scores.len() == 1)),
            Err(error) => {
                let ReadError::Request(RequestError::UnknownNode { place, id, .. }) = error else { panic!("{error}") };
                assert!(is_bad && place == "queries[1].src" && id == 99, "{place} {id}");
            }
        }
    }
}

#[test]
fn a_rank_in_chunks_is_the_rank_in_one() {
    let setting = setting(&SchedulerSpec { chunk: 1, ..SchedulerSpec::default() });
    let rank = RankQuery { src: 3.into(), candidates: None, time: None, k: 12 };
    let answer = setting.read(ReadRequest::Rank(rank.clone()), within(20_000)).unwrap();
    assert_eq!(answer.body, AnswerBody::Ranked(setting.service.engine().rank(&rank).unwrap().answer));
}

#[test]
fn reads_with_tighter_deadlines_are_answered_while_a_long_rank_is_under_way() {
    // There is one thread, and each candidate is a chunk, so the rank takes far longer than a score.
    let setting = setting(&SchedulerSpec { chunk: 1, workers: 1, ..SchedulerSpec::default() });
    let known: Vec<ExternalId> = setting.world.queries(SEEN..EVENTS).iter().map(|pair| pair.dst.clone()).collect();
    let candidates: Vec<ExternalId> = known.into_iter().cycle().take(20_000).collect();
    let (query, rank) = (
        [PairQuery { src: 1.into(), dst: 2.into(), time: None }],
        RankQuery { src: 1.into(), candidates: Some(candidates), time: None, k: 5 },
    );
    let expected = AnswerBody::Ranked(setting.service.engine().rank(&rank).unwrap().answer);
    let (mut rounds, mut between) = (0, 0);
    while rounds < 20 && setting.scheduler.status().overtakings == 0 {
        let long = setting.submit(ReadRequest::Rank(rank.clone()), within(30_000));
        while !long.is_finished() {
            setting.read(score(&query), within(5_000)).unwrap();
            between += u64::from(!long.is_finished());
        }
        assert_eq!(setting.runtime.block_on(long).unwrap().unwrap().body, expected);
        rounds += 1;
    }
    let overtakings = setting.scheduler.status().overtakings;
    assert!(
        between > 0 && overtakings > 0,
        "{between} were answered beside {rounds} ranks, {overtakings} passes came between their chunks"
    );
}

#[test]
fn a_read_that_cannot_meet_its_deadline_is_refused_before_it_is_computed() {
    let setting = setting(&SchedulerSpec::default());
    let query = [PairQuery { src: 1.into(), dst: 2.into(), time: None }];
    for _ in 0..40 {
        setting.read(score(&query), within(20_000)).unwrap();
    }
    let passes = setting.scheduler.status().passes;
    let refused = setting
        .read(score(&query), ReadOptions { deadline: Some(Instant::now()), ..ReadOptions::default() })
        .unwrap_err();
    assert!(matches!(refused, ReadError::TooLate { retry_after, .. } if retry_after > Duration::ZERO), "{refused}");
    assert_eq!((setting.scheduler.status().passes, setting.scheduler.status().refused_late), (passes, 1));
}

#[test]
fn an_answer_has_seen_the_requested_events_or_is_refused() {
    let setting = setting(&SchedulerSpec::default());
    let query = [PairQuery { src: 1.into(), dst: 2.into(), time: None }];
    let own_write = ReadOptions { min_seq: Some(SEEN as u64 + 1), ..within(20_000) };
    let waiting = setting.submit(score(&query), own_write);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!waiting.is_finished());
    ingest(&setting.service, &setting.world.new_events(SEEN..SEEN + 1)).unwrap();
    assert_eq!(setting.runtime.block_on(waiting).unwrap().unwrap().position.log_seq, SEEN as u64 + 1);

    let too_much = ReadOptions { min_seq: Some(SEEN as u64 + 100), ..within(50) };
    let refused = setting.read(score(&query), too_much).unwrap_err();
    assert!(matches!(refused, ReadError::Stale { at, .. } if at == SEEN as u64 + 1), "{refused}");
}

#[test]
fn an_answer_is_no_older_than_its_bound() {
    let setting = setting(&SchedulerSpec::default());
    let query = [PairQuery { src: 1.into(), dst: 2.into(), time: None }];
    let bound = Duration::from_millis(30);
    // How many events had been submitted at some times.
    let mut taken = Vec::new();
    for event in setting.world.new_events(SEEN..SEEN + 60) {
        let accepted = IngestRequest {
            events: vec![event],
            granularity: Granularity::Event,
            ack: Ack::Accepted,
            on_error: OnError::Abort,
        };
        setting.service.ingest(accepted).unwrap();
        taken.push((Instant::now(), setting.service.submitted_seq()));
        let asked = Instant::now();
        match setting.read(score(&query), ReadOptions { max_staleness: Some(bound), ..within(20_000) }) {
            Ok(answer) => {
                let before = taken.iter().rev().find(|(at, _)| *at + bound < asked).map_or(0, |&(_, seq)| seq);
                assert!(answer.position.log_seq >= before, "{} of {before}", answer.position.log_seq);
            }
            Err(refused) => assert!(matches!(refused, ReadError::Stale { .. }), "{refused}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let options = ReadOptions { max_staleness: Some(Duration::ZERO), ..within(20_000) };
    assert_eq!(setting.read(score(&query), options).unwrap().position.log_seq, SEEN as u64 + 60);
}

#[test]
fn reads_that_wait_when_a_scheduler_ends_are_answered_with_an_error() {
    let setting = setting(&SchedulerSpec::default());
    let Setting { world: _world, service: _service, scheduler, runtime } = setting;
    let query = [PairQuery { src: 1.into(), dst: 2.into(), time: None }];
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let (scheduler, read) = (scheduler.clone(), score(&query));
            runtime.spawn(async move { scheduler.submit(read, ReadOptions::default()).await })
        })
        .collect();
    drop(scheduler);
    for answer in asked {
        match runtime.block_on(answer).unwrap() {
            Ok(answer) => assert!(matches!(answer.body, AnswerBody::Scores(_))),
            Err(refused) => assert_eq!(refused, ReadError::Unavailable("stopping")),
        }
    }
}

#[test]
fn the_status_separates_anonymous_reads_from_those_of_tenants() {
    let setting = setting(&SchedulerSpec::default());
    let query = [PairQuery { src: 1.into(), dst: 2.into(), time: None }];
    setting.read(score(&query), ReadOptions { tenant: "shop".into(), ..within(20_000) }).unwrap();
    setting.read(score(&query), within(20_000)).unwrap();
    let status = setting.scheduler.status();
    let names: Vec<&str> = status.tenants.iter().map(|tenant| &*tenant.name).collect();
    assert!(names.contains(&"shop") && names.contains(&""), "{names:?}");
    assert_eq!((status.admitted, status.waiting, status.items), (2, 0, 2));
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let spec: Result<SchedulerSpec, _> = toml::from_str("max_batches = 3");
    assert!(spec.unwrap_err().to_string().contains("max_batches"));
    let none = SchedulerSpec { chunk: 0, ..SchedulerSpec::default() };
    assert_eq!(none.check().unwrap_err(), "scheduler.chunk is 0; it must be at least 1");
}
