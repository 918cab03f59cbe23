//! A long read is stopped when it is too late or nobody waits for it, and shuts no other read out.
#![allow(clippy::unwrap_used, reason = "tests")]
mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::service::{in_memory, ingest, open};
use common::{EVENTS, Running, SEEN, World, small};
use serde_json::json;
use tempograph_serving::{
    Answer, ExternalId, NewEvent, PairQuery, RankQuery, ReadError, ReadOptions, ReadRequest, RequestError, Scheduler,
    SchedulerSpec, ServeSpec, Service,
};
use tokio::runtime::Runtime;

/// So many candidates, each a chunk of its own, take seconds.
const LONG: usize = 50_000;

fn slow() -> SchedulerSpec {
    SchedulerSpec { chunk: 1, workers: 1, ..SchedulerSpec::default() }
}

struct Setting {
    world: World,
    service: Arc<Service>,
    scheduler: Arc<Scheduler>,
    runtime: Runtime,
}

fn setting() -> Setting {
    let world = World::new(&small(), 0);
    world.engine();
    let service = open(&world.folder(), &in_memory());
    let scheduler = Arc::new(Scheduler::start(service.clone(), &slow()).unwrap());
    Setting { world, service, scheduler, runtime: Runtime::new().unwrap() }
}

fn options(tenant: &str, millis: u64) -> ReadOptions {
    let deadline = Some(Instant::now() + Duration::from_millis(millis));
    ReadOptions { deadline, tenant: tenant.into(), ..ReadOptions::default() }
}

impl Setting {
    fn submit(&self, read: ReadRequest, options: ReadOptions) -> tokio::task::JoinHandle<Result<Answer, ReadError>> {
        let scheduler = self.scheduler.clone();
        self.runtime.spawn(async move { scheduler.submit(read, options).await })
    }

    fn long_rank(&self) -> ReadRequest {
        let known: Vec<ExternalId> = self.world.queries(SEEN..EVENTS).iter().map(|pair| pair.dst.clone()).collect();
        let candidates = Some(known.into_iter().cycle().take(LONG).collect());
        ReadRequest::Rank(RankQuery { src: 1.into(), candidates, time: None, k: 5 })
    }

    fn long_score(&self) -> ReadRequest {
        let queries = self.world.queries(SEEN..EVENTS).into_iter().cycle().take(LONG).collect();
        ReadRequest::Score { queries, during: Vec::new() }
    }

    fn long_score_with_events(&self) -> ReadRequest {
        let ReadRequest::Score { queries, .. } = self.long_score() else { unreachable!() };
        ReadRequest::Score { queries, during: self.world.new_events(SEEN..SEEN + 1) }
    }
}

/// Work that the engine has done so far.
fn work(service: &Service) -> u64 {
    service.engine().stats().memories_shown + service.engine().stats().embeddings_asked
}

/// How long the engine goes on working.
fn works_on_for(service: &Service) -> Duration {
    let (begun, mut before, mut last) = (Instant::now(), work(service), Duration::ZERO);
    while begun.elapsed() < last + Duration::from_millis(100) {
        std::thread::sleep(Duration::from_millis(1));
        if work(service) != before {
            (before, last) = (work(service), begun.elapsed());
        }
        assert!(last < Duration::from_secs(10));
    }
    last
}

#[test]
fn every_kind_of_long_read_stops_at_its_deadline() {
    let setting = setting();
    for read in [setting.long_rank(), setting.long_score(), setting.long_score_with_events()] {
        let begun = Instant::now();
        let outcome = setting.runtime.block_on(setting.submit(read, options("a", 15))).unwrap();
        let took = begun.elapsed();
        assert!(
            matches!(outcome, Err(ReadError::Request(RequestError::Deadline { done })) if done < 100),
            "{outcome:?}"
        );
        assert!((15..250).contains(&took.as_millis()), "{took:?}");
        assert!(works_on_for(&setting.service) < Duration::from_millis(20));
    }
}

#[test]
fn the_default_deadline_is_a_deadline() {
    let setting = setting();
    let spec = SchedulerSpec { deadline_ms: 10, ..slow() };
    let scheduler = Scheduler::start(setting.service.clone(), &spec).unwrap();
    let outcome = setting.runtime.block_on(scheduler.submit(setting.long_rank(), ReadOptions::default()));
    assert!(matches!(outcome, Err(ReadError::Request(RequestError::Deadline { .. }))), "{outcome:?}");
}

#[test]
fn every_kind_of_long_read_stops_when_nobody_waits_for_it() {
    let setting = setting();
    for read in [setting.long_rank(), setting.long_score(), setting.long_score_with_events()] {
        let before = work(&setting.service);
        let waiting = setting.submit(read, options("a", 60_000));
        while work(&setting.service) < before + 500 {
            std::thread::sleep(Duration::from_millis(1));
        }
        waiting.abort();
        assert!(setting.runtime.block_on(waiting).unwrap_err().is_cancelled());
        let took = works_on_for(&setting.service);
        assert!(took < Duration::from_millis(20), "{took:?}");
    }
}

#[test]
fn a_caller_that_goes_away_is_noticed() {
    let setting = setting();
    let ReadRequest::Rank(query) = setting.long_rank() else { unreachable!() };
    let spec = ServeSpec { scheduler: slow(), ..ServeSpec::default() };
    let server = Running::of(setting.service.clone(), &spec);
    let body = json!({ "src": 1, "candidates": query.candidates }).to_string();
    let before = work(&setting.service);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!(
        "POST /v1/rank HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nDeadline-Ms: 60000\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    while work(&setting.service) < before + 500 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(stream);
    let took = works_on_for(&setting.service);
    assert!(took < Duration::from_millis(50), "{took:?}");
}

#[test]
fn short_reads_are_answered_during_a_long_one_whatever_their_deadlines_and_tenants() {
    let setting = setting();
    let score = || ReadRequest::Score {
        queries: vec![PairQuery { src: 1.into(), dst: 2.into(), time: None }],
        during: Vec::new(),
    };
    for tenant in ["other", "same"] {
        for long in [setting.long_rank(), setting.long_score()] {
            // It has to be done before the short ones, which come later, have to be.
            let long = setting.submit(long, options("same", 20_000));
            std::thread::sleep(Duration::from_millis(20));
            let mut between = 0;
            while !long.is_finished() && between < 100 {
                let begun = Instant::now();
                setting.runtime.block_on(setting.submit(score(), options(tenant, 30_000))).unwrap().unwrap();
                between += u64::from(!long.is_finished());
                assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
            }
            assert!(between >= 5, "{tenant}: {between} during a long one");
            long.abort();
        }
    }
}

/// Median and 99th percentile of the latencies of scores that come at a rate, next to a tenant that ranks everything back
/// to back where `ranks`; and the number of rankings.
fn latencies(setting: &Setting, rate: f64, seconds: f64, ranks: bool) -> (f64, f64, u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let ranker = ranks.then(|| {
        let (scheduler, stop) = (setting.scheduler.clone(), stop.clone());
        setting.runtime.spawn(async move {
            let mut rankings = 0;
            while !stop.load(Ordering::Relaxed) {
                let all = RankQuery { src: 1.into(), candidates: None, time: None, k: 10 };
                let answer = scheduler.submit(ReadRequest::Rank(all), options("ranks", 600_000)).await;
                rankings += u64::from(answer.is_ok());
            }
            rankings
        })
    });
    let begun = Instant::now();
    let mut answers = Vec::new();
    for i in 0..(rate * seconds) as usize {
        let at = begun + Duration::from_secs_f64(i as f64 / rate);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let scheduler = setting.scheduler.clone();
        let query = PairQuery { src: (1 + i as u64 % 18).into(), dst: (1_000 + i as u64 % 500_000).into(), time: None };
        answers.push(setting.runtime.spawn(async move {
            let read = ReadRequest::Score { queries: vec![query], during: Vec::new() };
            let _ = scheduler.submit(read, options("scores", 10_000)).await;
            at.elapsed().as_secs_f64() * 1e3
        }));
    }
    let mut took: Vec<f64> = answers.into_iter().map(|answer| setting.runtime.block_on(answer).unwrap()).collect();
    took.sort_by(f64::total_cmp);
    stop.store(true, Ordering::Relaxed);
    let rankings = ranker.map_or(0, |ranker| setting.runtime.block_on(ranker).unwrap());
    (took[took.len() / 2], took[took.len() * 99 / 100], rankings)
}

/// `cargo test --release -p tempograph-serving --test long_reads -- --ignored --nocapture`
#[test]
#[ignore = "measures for a minute"]
fn scores_while_a_tenant_ranks_half_a_million_destinations() {
    let mut setting = setting();
    let newest = setting.world.new_events(EVENTS - 1..EVENTS)[0].clone();
    for start in (0..500_000).step_by(20_000) {
        let time = |i: u64| newest.time.as_i64().unwrap() + i as i64;
        let event = |i: u64| NewEvent {
            src: (1 + i % 18).into(),
            dst: (1_000 + i).into(),
            time: time(i).into(),
            ..newest.clone()
        };
        ingest(&setting.service, &(start..start + 20_000).map(event).collect::<Vec<_>>()).unwrap();
    }
    let spec = SchedulerSpec::default();
    setting.scheduler = Arc::new(Scheduler::start(setting.service.clone(), &spec).unwrap());
    // Scores that come as fast as they are answered.
    let begun = Instant::now();
    let closed: Vec<_> = (0..8u64)
        .map(|i| {
            let scheduler = setting.scheduler.clone();
            setting.runtime.spawn(async move {
                for n in 0..4000 {
                    let query =
                        PairQuery { src: (1 + (i + n) % 18).into(), dst: (1_000 + n % 500_000).into(), time: None };
                    let read = ReadRequest::Score { queries: vec![query], during: Vec::new() };
                    scheduler.submit(read, options("scores", 10_000)).await.unwrap();
                }
            })
        })
        .collect();
    closed.into_iter().for_each(|answers| setting.runtime.block_on(answers).unwrap());
    let saturation = 32_000.0 / begun.elapsed().as_secs_f64();
    let alone = latencies(&setting, saturation / 2.0, 10.0, false);
    let with_rankings = latencies(&setting, saturation / 2.0, 20.0, true);
    println!("saturation {saturation:.0}/s; alone p50 {:.2} p99 {:.2} ms", alone.0, alone.1);
    println!(
        "with rankings p50 {:.2} p99 {:.2} ms, {} rankings in 20 s",
        with_rankings.0, with_rankings.1, with_rankings.2
    );
    assert!(
        with_rankings.1 <= 10.0 && with_rankings.1 <= 3.0 * alone.1,
        "{with_rankings:?} with rankings, {alone:?} alone"
    );
}
