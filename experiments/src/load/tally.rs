//! Counts the results of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The largest latency that is recorded exactly, in microseconds.
const LONGEST: u64 = 120_000_000;

/// Latencies in microseconds, exact to three digits.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        // The bounds are constants that the crate takes.
        Latencies(
            Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are ordered and three digits are allowed"),
        )
    }
}

/// Quantiles of latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub count: u64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Latencies {
    pub fn note(&mut self, latency: Duration) {
        self.0.saturating_record((latency.as_micros() as u64).clamp(1, LONGEST));
    }

    fn add(&mut self, other: &Latencies) {
        // Both have the same bounds.
        self.0.add(&other.0).expect("histograms of the same bounds add up");
    }

    pub fn quantiles(&self) -> Quantiles {
        let millis = |share: f64| self.0.value_at_quantile(share) as f64 / 1e3;
        if self.0.is_empty() {
            return Quantiles::default();
        }
        Quantiles {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1e3,
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
            p999_ms: millis(0.999),
            max_ms: self.0.max() as f64 / 1e3,
        }
    }
}

/// One kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Requests that were to be sent.
    pub intended: u64,
    /// Answered within the deadline, counted from when they were to be sent.
    pub in_time: u64,
    /// Answered after it.
    pub late: u64,
    /// All other requests, by their error.
    pub errors: BTreeMap<String, u64>,
    /// Latencies of the answered requests.
    pub latencies: Latencies,
}

impl Tally {
    /// Counts `count` requests that were answered `latency` after they were to be sent.
    pub fn answered(&mut self, latency: Duration, deadline: Duration) {
        self.intended += 1;
        self.latencies.note(latency);
        *(if latency <= deadline { &mut self.in_time } else { &mut self.late }) += 1;
    }

    pub fn failed(&mut self, what: &str, count: u64) {
        self.intended += count;
        *self.errors.entry(what.to_string()).or_default() += count;
    }

    pub fn add(&mut self, other: &Tally) {
        self.intended += other.intended;
        self.in_time += other.in_time;
        self.late += other.late;
        self.latencies.add(&other.latencies);
        for (what, count) in &other.errors {
            *self.errors.entry(what.clone()).or_default() += count;
        }
    }

    /// The report over `seconds` seconds.
    pub fn report(&self, seconds: f64) -> TallyReport {
        let (answered, failed) = (self.in_time + self.late, self.errors.values().sum::<u64>());
        debug_assert_eq!(answered + failed, self.intended);
        TallyReport {
            offered_per_second: self.intended as f64 / seconds,
            answered_per_second: answered as f64 / seconds,
            goodput_per_second: self.in_time as f64 / seconds,
            in_time: self.in_time,
            late: self.late,
            failed,
            latency: self.latencies.quantiles(),
            errors: self.errors.clone(),
        }
    }
}

/// The report on one kind of request.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TallyReport {
    pub offered_per_second: f64,
    pub answered_per_second: f64,
    /// Answers within the deadline, a second.
    pub goodput_per_second: f64,
    pub in_time: u64,
    pub late: u64,
    pub failed: u64,
    pub latency: Quantiles,
    pub errors: BTreeMap<String, u64>,
}

impl TallyReport {
    /// The share of the intended requests that was answered in time.
    pub fn kept(&self) -> f64 {
        if self.offered_per_second > 0.0 { self.goodput_per_second / self.offered_per_second } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once_and_quantiles_are_exact_to_three_digits() {
        let (mut tally, mut other) = (Tally::default(), Tally::default());
        (1..=1000).for_each(|millis| tally.answered(Duration::from_millis(millis), Duration::from_millis(900)));
        other.failed("429 busy", 5);
        other.failed("429 busy", 1);
        tally.add(&other);
        let report = tally.report(10.0);
        assert_eq!((report.in_time, report.late, report.failed), (900, 100, 6));
        assert!(
            (report.latency.p50_ms - 500.0).abs() <= 0.5 && (report.latency.p99_ms - 990.0).abs() <= 1.0,
            "{:?}",
            report.latency
        );
        assert!((report.kept() - 900.0 / 1006.0).abs() < 1e-9);
        assert_eq!(report.errors["429 busy"], 6);
    }
}
