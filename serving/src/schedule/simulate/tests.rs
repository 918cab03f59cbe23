//! Promises of the policies on bursty traces.

use std::sync::Arc;
use std::time::Duration;

use tempograph_framework::{Draw, Purpose};

use crate::schedule::policy::spec::{Policy, SchedulerSpec};
use crate::schedule::simulate::arrivals::Arrivals;
use crate::schedule::simulate::outcome::SimulationReport;
use crate::schedule::simulate::{Arrival, Machine, ReadOutcome, simulate};

const MACHINE: Machine =
    Machine { workers: 1, fixed: Duration::from_micros(100), item: Duration::from_micros(50), noise: 0.2 };
/// Single pairs a second that full batches of the default size can answer.
const SATURATION: f64 = 19_000.0;
const TIGHT: Duration = Duration::from_millis(20);

fn stream(tenant: &str, arrivals: &Arrivals, rate: f64, seconds: u64, seed: u64) -> Vec<Arrival> {
    let tenant: Arc<str> = tenant.into();
    let moments =
        arrivals.moments(rate, Duration::from_secs(seconds), &mut Draw::new(seed).of(Purpose::Sampling).at(0, 0));
    moments.into_iter().map(|at| Arrival { at, tenant: tenant.clone(), items: 1, rank: false, within: TIGHT }).collect()
}

fn merged(streams: Vec<Vec<Arrival>>) -> Vec<Arrival> {
    let mut all: Vec<Arrival> = streams.into_iter().flatten().collect();
    all.sort_by_key(|arrival| arrival.at);
    all
}

fn spec(policy: Policy) -> SchedulerSpec {
    SchedulerSpec { policy, ..SchedulerSpec::default() }
}

fn outcome(policy: Policy, trace: &[Arrival]) -> SimulationReport {
    SimulationReport::of(trace, &simulate(&spec(policy), MACHINE, trace), |_| true)
}

#[test]
fn past_saturation_deadlines_keep_their_goodput_and_arrival_order_does_not() {
    for arrivals in [Arrivals::Poisson, Arrivals::Bursty] {
        let peak = outcome(Policy::Deadline, &stream("a", &arrivals, SATURATION, 4, 1)).goodput();
        for load in [1.5, 3.0] {
            let trace = stream("a", &arrivals, load * SATURATION, 4, 1);
            let (deadline, fifo) = (outcome(Policy::Deadline, &trace), outcome(Policy::Fifo, &trace));
            assert!(deadline.goodput() >= 0.95 * peak, "{arrivals:?} at {load}: {} after {peak}", deadline.goodput());
            assert!(
                deadline.goodput() > 1.5 * fifo.goodput(),
                "{arrivals:?} at {load}: {} and {}",
                deadline.goodput(),
                fifo.goodput()
            );
            assert!(deadline.late * 50 <= deadline.in_time, "{arrivals:?} at {load}: {} late", deadline.late);
            assert!(deadline.dropped * 50 <= deadline.in_time, "{arrivals:?} at {load}: {} dropped", deadline.dropped);
        }
    }
}

#[test]
fn below_saturation_everybody_is_answered_in_time() {
    for policy in [Policy::Deadline, Policy::Fifo] {
        let found = outcome(policy, &stream("a", &Arrivals::Poisson, 0.5 * SATURATION, 4, 1));
        assert!(found.in_time * 1000 >= found.asked * 999, "{policy:?}: {} of {}", found.in_time, found.asked);
    }
}

#[test]
fn a_read_by_itself_waits_for_nobody() {
    let trace = stream("a", &Arrivals::Replay(vec![0.0, 1.0]), 10.0, 30, 1);
    let found = outcome(Policy::Deadline, &trace);
    assert!(found.latency(1.0).unwrap() <= Duration::from_micros(180), "{:?}", found.latency(1.0));
}

#[test]
fn waiting_for_company_never_costs_a_deadline() {
    let spec = SchedulerSpec { max_wait_us: 1_000_000, ..spec(Policy::Deadline) };
    let trace = stream("a", &Arrivals::Poisson, 5_000.0, 4, 1);
    let found = SimulationReport::of(&trace, &simulate(&spec, MACHINE, &trace), |_| true);
    assert!(found.in_time * 1000 >= found.asked * 999, "{} of {}", found.in_time, found.asked);
}

#[test]
fn a_quiet_tenant_is_served_during_a_flood() {
    let trace = merged(vec![
        stream("quiet", &Arrivals::Poisson, 500.0, 4, 1),
        stream("flood", &Arrivals::Poisson, 3.0 * SATURATION, 4, 2),
    ]);
    let fates = simulate(&spec(Policy::Deadline), MACHINE, &trace);
    let quiet = SimulationReport::of(&trace, &fates, |arrival| &*arrival.tenant == "quiet");
    assert!(
        quiet.in_time * 100 >= quiet.asked * 97,
        "{quiet:?}",
        quiet = (quiet.asked, quiet.in_time, quiet.refused, quiet.late, quiet.dropped)
    );
    let fifo = simulate(&spec(Policy::Fifo), MACHINE, &trace);
    let unlucky = SimulationReport::of(&trace, &fifo, |arrival| &*arrival.tenant == "quiet");
    assert!(unlucky.in_time * 2 < quiet.in_time, "{} and {}", unlucky.in_time, quiet.in_time);
}

#[test]
fn many_bursty_tenants_together_take_no_more_than_half_from_an_even_one() {
    let mut streams: Vec<_> =
        (0..15).map(|i| stream(&format!("bursty{i}"), &Arrivals::Bursty, SATURATION / 8.0, 6, 10 + i)).collect();
    streams.push(stream("even", &Arrivals::Replay(vec![0.0, 1.0]), 0.4 * SATURATION, 6, 1));
    let trace = merged(streams);
    let fates = simulate(&spec(Policy::Deadline), MACHINE, &trace);
    let even = SimulationReport::of(&trace, &fates, |arrival| {
        &*arrival.tenant == "even" && arrival.at > Duration::from_secs(4)
    });
    // By then all of these streams are classified as bursty.
    assert!(even.in_time * 10 >= even.asked * 9, "{} of {}", even.in_time, even.asked);
}

#[test]
fn equal_tenants_past_saturation_are_served_equally() {
    let trace = merged((0..4).map(|i| stream(&format!("t{i}"), &Arrivals::Poisson, 0.75 * SATURATION, 4, i)).collect());
    let fates = simulate(&spec(Policy::Deadline), MACHINE, &trace);
    let served: Vec<usize> = (0..4)
        .map(|i| SimulationReport::of(&trace, &fates, |arrival| *arrival.tenant == format!("t{i}")).in_time)
        .collect();
    let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
    assert!(most - least <= most / 10, "{served:?}");
}

#[test]
fn long_ranks_yield_to_tight_deadlines_and_still_finish() {
    let ranks: Vec<Arrival> = (0..8)
        .map(|i| Arrival {
            at: Duration::from_millis(400 * i),
            tenant: "ranker".into(),
            items: 5000,
            rank: true,
            within: Duration::from_secs(2),
        })
        .collect();
    // Each takes 250 ms, while a score has 20 ms; one chunk takes 5 ms.
    let trace = merged(vec![ranks, stream("scorer", &Arrivals::Poisson, 2000.0, 4, 1)]);
    let spec = SchedulerSpec { chunk: 100, ..spec(Policy::Deadline) };
    let fates = simulate(&spec, MACHINE, &trace);
    let scores = SimulationReport::of(&trace, &fates, |arrival| !arrival.rank);
    assert!(scores.in_time * 100 >= scores.asked * 97, "{} of {}", scores.in_time, scores.asked);
    let ranks = SimulationReport::of(&trace, &fates, |arrival| arrival.rank);
    assert!(ranks.in_time == 8, "{} of 8", ranks.in_time);
    let fifo = simulate(&SchedulerSpec { policy: Policy::Fifo, ..spec }, MACHINE, &trace);
    let behind = SimulationReport::of(&trace, &fifo, |arrival| !arrival.rank);
    assert!(behind.in_time < scores.in_time * 3 / 4, "{} and {}", behind.in_time, scores.in_time);
}

#[test]
fn nobody_starves_whose_deadline_is_far_away() {
    let patient: Vec<Arrival> = (0..100)
        .map(|i| Arrival {
            at: Duration::from_millis(10 * i),
            tenant: "patient".into(),
            items: 1,
            rank: false,
            within: Duration::from_secs(60),
        })
        .collect();
    let trace = merged(vec![patient, stream("hasty", &Arrivals::Poisson, 2.0 * SATURATION, 3, 1)]);
    let fates = simulate(&spec(Policy::Deadline), MACHINE, &trace);
    let patient = SimulationReport::of(&trace, &fates, |arrival| &*arrival.tenant == "patient");
    assert_eq!(patient.in_time, 100);
    assert!(patient.latency(1.0).unwrap() < Duration::from_millis(500), "{:?}", patient.latency(1.0));
}

#[test]
fn queues_are_bounded_and_a_full_one_makes_room_for_who_has_little_in_it() {
    let at_once = |tenant: &str, count: usize| -> Vec<Arrival> {
        (0..count)
            .map(|i| Arrival {
                at: Duration::from_nanos(i as u64),
                tenant: tenant.into(),
                items: 1,
                rank: false,
                within: Duration::from_secs(100),
            })
            .collect()
    };
    let mut last = at_once("late", 1);
    last[0].at = Duration::from_micros(1);
    let trace = merged(vec![at_once("first", 400), last]);
    let spec = SchedulerSpec { queue: 100, tenant_queue: 100, ..spec(Policy::Deadline) };
    let fates = simulate(&spec, MACHINE, &trace);
    let first = SimulationReport::of(&trace, &fates, |arrival| &*arrival.tenant == "first");
    assert_eq!((first.in_time, first.refused, first.dropped), (100, 299, 1));
    assert!(matches!(
        fates[trace.iter().position(|arrival| &*arrival.tenant == "late").unwrap()],
        ReadOutcome::Answered(_)
    ));
}
