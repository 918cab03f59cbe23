//! What the server counts, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::request::Position;

/// Upper bounds of the latency buckets in seconds.
const BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Counters of a running server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    latencies: Mutex<BTreeMap<String, Latency>>,
    pub events: AtomicU64,
    pub late: AtomicU64,
    log_seq: AtomicU64,
    version: AtomicU64,
    nodes: AtomicU64,
}

#[derive(Debug, Default)]
struct Latency {
    /// Requests within each bound, not summed up.
    within: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self, route: &str, code: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.into(), code)).or_default() += 1;
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = latencies.entry(route.into()).or_default();
        let seconds = took.as_secs_f64();
        if let Some(bound) = BOUNDS.iter().position(|&bound| seconds <= bound) {
            latency.within[bound] += 1;
        }
        latency.count += 1;
        latency.seconds += seconds;
    }

    /// The engine stands here now.
    pub fn stands_at(&self, position: Position, nodes: usize) {
        self.log_seq.store(position.log_seq, Ordering::Relaxed);
        self.version.store(position.version, Ordering::Relaxed);
        self.nodes.store(nodes as u64, Ordering::Relaxed);
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, kind, help, value) in [
            ("events_total", "counter", "Events applied since the start.", &self.events),
            ("late_requests_total", "counter", "Requests refused because of a time before the newest event.", &self.late),
            ("log_seq", "gauge", "Events the history has seen.", &self.log_seq),
            ("version", "gauge", "Batches the history has seen.", &self.version),
            ("nodes", "gauge", "Nodes known.", &self.nodes),
        ] {
            header(&mut out, name, kind, help);
            push(&mut out, format_args!("tempograph_{name} {}", value.load(Ordering::Relaxed)));
        }
        self.write_requests(&mut out);
        self.write_latencies(&mut out);
        out
    }

    fn write_requests(&self, out: &mut String) {
        header(out, "requests_total", "counter", "Requests answered.");
        for ((route, code), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            push(out, format_args!("tempograph_requests_total{{route=\"{route}\",code=\"{code}\"}} {count}"));
        }
    }

    fn write_latencies(&self, out: &mut String) {
        const NAME: &str = "tempograph_request_seconds";
        header(out, "request_seconds", "histogram", "Seconds from a request's head to its answer's.");
        for (route, latency) in self.latencies.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let mut within = 0;
            for (bound, count) in BOUNDS.iter().zip(latency.within) {
                within += count;
                push(out, format_args!("{NAME}_bucket{{route=\"{route}\",le=\"{bound}\"}} {within}"));
            }
            push(out, format_args!("{NAME}_bucket{{route=\"{route}\",le=\"+Inf\"}} {}", latency.count));
            push(out, format_args!("{NAME}_sum{{route=\"{route}\"}} {}", latency.seconds));
            push(out, format_args!("{NAME}_count{{route=\"{route}\"}} {}", latency.count));
        }
    }
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    push(out, format_args!("# HELP tempograph_{name} {help}\n# TYPE tempograph_{name} {kind}"));
}

fn push(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_every_request_once_and_its_buckets_sum_up() {
        let metrics = Metrics::default();
        for millis in [1, 2, 3, 9000] {
            metrics.answered("/v1/score", 200, Duration::from_millis(millis));
        }
        let text = metrics.text();
        for line in [
            r#"tempograph_requests_total{route="/v1/score",code="200"} 4"#,
            r#"tempograph_request_seconds_bucket{route="/v1/score",le="0.001"} 1"#,
            r#"tempograph_request_seconds_bucket{route="/v1/score",le="0.005"} 3"#,
            r#"tempograph_request_seconds_bucket{route="/v1/score",le="5"} 3"#,
            r#"tempograph_request_seconds_bucket{route="/v1/score",le="+Inf"} 4"#,
            r#"tempograph_request_seconds_count{route="/v1/score"} 4"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
