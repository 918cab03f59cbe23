//! Durations counted in buckets, without a lock.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in seconds: from the time of a look-up to the longest time that a client may wait.
const BOUNDS: [f64; 17] =
    [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counts of durations by bucket. Relaxed order is enough, since no other data depends on them.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Counts between each bound and the one before; the last is above all bounds.
    within: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|&bound| bound < seconds);
        self.within[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.within.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Writes the samples of the metric `name` with `labels`, such as `route="/v1/score"`.
    pub fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut sum = 0;
        for (i, count) in self.within.iter().enumerate() {
            sum += count.load(Ordering::Relaxed);
            let bound = BOUNDS.get(i).map_or("+Inf".to_string(), f64::to_string);
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {sum}");
        }
        let seconds = self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {sum}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_counted_once_and_the_buckets_sum_up() {
        let histogram = Histogram::default();
        for micros in [0, 50, 1000, 1001, 3000, 11_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let mut text = String::new();
        histogram.write(&mut text, "x", "a=\"b\"");
        for line in [
            r#"x_bucket{a="b",le="0.00005"} 2"#,
            r#"x_bucket{a="b",le="0.001"} 3"#,
            r#"x_bucket{a="b",le="0.0025"} 4"#,
            r#"x_bucket{a="b",le="10"} 5"#,
            r#"x_bucket{a="b",le="+Inf"} 6"#,
            r#"x_count{a="b"} 6"#,
            r#"x_sum{a="b"} 11.005051"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
