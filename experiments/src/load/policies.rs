//! Compares the scheduler's policies on one trace, in virtual time.

use std::time::Duration;

use crate::terminal::print::print;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use tempograph_framework::{Draw, Purpose};
use tempograph_serving::{Arrival, Arrivals, Machine, Policy, SchedulerSpec, SimulationReport, simulate};

/// Load as a share of what full batches could answer.
const LOADS: [f64; 5] = [0.5, 1.0, 1.5, 2.0, 3.0];

/// Parses the microseconds of a pass and of a pair in it: `100,50`.
///
/// # Errors
/// Anything else.
pub(super) fn machine(text: &str) -> Result<Machine> {
    let numbers: Vec<f64> = text.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    let [pass, pair] = numbers[..] else {
        bail!("`{text}` is not the microseconds of a pass and of a pair in it, such as 100,50")
    };
    if !(pass >= 0.0 && pair > 0.0 && pass + pair < 1e9) {
        bail!("`{text}`: a pair takes some time, and not forever");
    }
    let micros = |micros: f64| Duration::from_secs_f64(micros / 1e6);
    Ok(Machine { workers: 1, fixed: micros(pass), item: micros(pair), noise: 0.2 })
}

/// Both policies at every load.
pub(super) fn compare(
    machine: Machine,
    arrivals: &Arrivals,
    seconds: f64,
    deadline: Duration,
    seed: u64,
) -> Vec<Value> {
    let spec = SchedulerSpec::default();
    let full = machine.fixed.as_secs_f64() + spec.max_batch as f64 * machine.item.as_secs_f64();
    let capacity = spec.max_batch as f64 / full;
    let at = |load: f64| {
        let mut chance = Draw::new(seed).of(Purpose::Sampling).at(0, 0);
        let moments = arrivals.moments(load * capacity, Duration::from_secs_f64(seconds), &mut chance);
        let read = |at| Arrival { at, tenant: "".into(), items: 1, rank: false, within: deadline };
        let trace: Vec<Arrival> = moments.into_iter().map(read).collect();
        [("fifo", Policy::Fifo), ("deadline", Policy::Deadline)].map(|(name, policy)| {
            let fates = simulate(&SchedulerSpec { policy, ..spec.clone() }, machine, &trace);
            row(name, load, &SimulationReport::of(&trace, &fates, |_| true))
        })
    };
    LOADS.into_iter().flat_map(at).collect()
}

fn row(policy: &str, load: f64, outcome: &SimulationReport) -> Value {
    let millis = |share| outcome.latency(share).map_or(f64::NAN, |latency| 1e3 * latency.as_secs_f64());
    json!({
        "load": load, "policy": policy, "asked": outcome.asked, "goodput_per_second": outcome.goodput(), "late": outcome.late,
        "refused": outcome.refused, "dropped": outcome.dropped, "p50_ms": millis(0.5), "p99_ms": millis(0.99), "p999_ms": millis(0.999),
    })
}

/// Prints the rows.
///
/// # Errors
/// A standard output that cannot be written.
pub(super) fn show(rows: &[Value]) -> Result<()> {
    print(format!(
        "{:>5}  {:<9} {:>11} {:>8} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "load", "policy", "goodput/s", "p50 ms", "p99 ms", "p99.9 ms", "late", "refused", "dropped"
    ))?;
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
        print(format!(
            "{:>5.1}  {:<9} {:>11.0} {:>8.2} {:>9.2} {:>9.2} {:>9} {:>8} {:>8}",
            number("load"),
            row["policy"].as_str().unwrap_or_default(),
            number("goodput_per_second"),
            number("p50_ms"),
            number("p99_ms"),
            number("p999_ms"),
            number("late"),
            number("refused"),
            number("dropped")
        ))?;
    }
    Ok(())
}
