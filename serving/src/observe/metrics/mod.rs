//! The server's metrics, in Prometheus' text format.

mod histogram;
pub(crate) mod inference;
mod taken;

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tonic::Code;

use self::histogram::Histogram;
use self::inference::InferenceCounts;
use self::taken::SubmissionTimes;
use crate::access::routes::ROUTES;
use crate::service::Ack;

/// HTTP statuses with their own counters; any other status counts as 500.
const STATUSES: [u16; 16] = [200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503, 504, 507];
/// Names of gRPC's status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    Http(u16),
    Grpc(Code),
}

impl Ended {
    fn slot(self) -> usize {
        match self {
            Ended::Http(status) => STATUSES.iter().position(|&known| known == status).unwrap_or(12),
            Ended::Grpc(code) => STATUSES.len() + code as usize,
        }
    }

    fn label(slot: usize) -> String {
        STATUSES.get(slot).map_or_else(|| CODES[slot - STATUSES.len()].to_string(), u16::to_string)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Ended::label(self.slot()))
    }
}

/// The stages of a request whose time is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Reading the request, from its head to its parsed body.
    Read,
    /// Waiting in the queue and computing.
    Answer,
    /// Writing the answer as bytes.
    Write,
}

const STAGES: [&str; 3] = ["read", "answer", "write"];
const ACKS: [&str; 3] = ["accepted", "durable", "applied"];

/// Counters of a running server. Relaxed order is enough, since no other data depends on them.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// By index in [`ROUTES`]. The last is for all other paths, so that a client cannot create labels.
    routes: Vec<RouteCounts>,
    stages: [Histogram; STAGES.len()],
    acks: [Histogram; ACKS.len()],
    submission_times: SubmissionTimes,
    staleness: Histogram,
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
    yielded: AtomicU64,
    /// By model of the Open Inference Protocol.
    pub inference: [InferenceCounts; 3],
}

#[derive(Debug)]
struct RouteCounts {
    ended: [AtomicU64; STATUSES.len() + CODES.len()],
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let counts =
            || RouteCounts { ended: std::array::from_fn(|_| AtomicU64::new(0)), seconds: Histogram::default() };
        Metrics {
            routes: (0..=ROUTES.len()).map(|_| counts()).collect(),
            stages: Default::default(),
            acks: Default::default(),
            submission_times: SubmissionTimes::default(),
            staleness: Histogram::default(),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            yielded: AtomicU64::new(0),
            inference: Default::default(),
        }
    }
}

impl Metrics {
    /// Records the answer of a request to the route at index `route` of [`ROUTES`], or to none.
    pub fn answered(&self, route: Option<usize>, ended: Ended, took: Duration) {
        let counts = &self.routes[route.unwrap_or(ROUTES.len())];
        counts.ended[ended.slot()].fetch_add(1, Relaxed);
        counts.seconds.record(took);
    }

    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].record(took);
    }

    /// Records an acknowledgement of events, `took` after they were submitted.
    pub fn acknowledged(&self, ack: Ack, took: Duration) {
        self.acks[ack as usize].record(took);
    }

    /// Records that all events before `seq` are submitted.
    pub fn submitted(&self, seq: u64) {
        self.submission_times.note(Instant::now(), seq);
    }

    /// Records the staleness of an answer that has seen `log_seq` events.
    pub fn record_staleness(&self, log_seq: u64) {
        self.staleness.record(self.submission_times.staleness(Instant::now(), log_seq));
    }

    pub fn connection_opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub fn connection_closed(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    pub fn connection_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// Records that a silent connection was closed for a new one.
    pub fn connection_yielded(&self) {
        self.yielded.fetch_add(1, Relaxed);
    }

    /// Writes the metrics to `out`.
    pub fn write(&self, out: &mut String) {
        let opened = self.opened.load(Relaxed);
        counter(out, "connections_total", "Connections taken.", opened);
        counter(
            out,
            "connections_refused_total",
            "Connections closed at once, because as many were open as may be.",
            self.refused.load(Relaxed),
        );
        counter(
            out,
            "connections_yielded_total",
            "Connections that had sent nothing, closed for new ones because as many were open as may be.",
            self.yielded.load(Relaxed),
        );
        gauge(out, "connections", "Connections open.", opened.saturating_sub(self.closed.load(Relaxed)));
        self.write_routes(out);
        header(out, "stage_seconds", "histogram", "Seconds of a request by stage.");
        for (stage, name) in self.stages.iter().zip(STAGES) {
            stage.write(out, "tempograph_stage_seconds", &format!("stage=\"{name}\""));
        }
        header(
            out,
            "ack_seconds",
            "histogram",
            "Seconds from events submitted to their acknowledgement; for `applied`, until reads see them.",
        );
        for (ack, name) in self.acks.iter().zip(ACKS) {
            ack.write(out, "tempograph_ack_seconds", &format!("ack=\"{name}\""));
        }
        header(
            out,
            "staleness_seconds",
            "histogram",
            "Age of the oldest event that was taken and that an answer has not seen; 0 for none.",
        );
        self.staleness.write(out, "tempograph_staleness_seconds", "of=\"answer\"");
    }

    fn write_routes(&self, out: &mut String) {
        let name = |at: usize| ROUTES.get(at).map_or("other", |route| route.path);
        header(out, "requests_total", "counter", "Requests answered.");
        for (at, counts) in self.routes.iter().enumerate() {
            for (slot, count) in counts.ended.iter().enumerate() {
                let count = count.load(Relaxed);
                if count > 0 {
                    let (route, code) = (name(at), Ended::label(slot));
                    line(out, format_args!("tempograph_requests_total{{route=\"{route}\",code=\"{code}\"}} {count}"));
                }
            }
        }
        header(out, "request_seconds", "histogram", "Seconds from a request's head to its answer's.");
        for (at, counts) in self.routes.iter().enumerate().filter(|(_, counts)| counts.seconds.count() > 0) {
            counts.seconds.write(out, "tempograph_request_seconds", &format!("route=\"{}\"", name(at)));
        }
    }
}

/// Writes a counter with one sample.
pub(crate) fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    header(out, name, "counter", help);
    line(out, format_args!("tempograph_{name} {value}"));
}

/// Writes a gauge with one sample.
pub(crate) fn gauge(out: &mut String, name: &str, help: &str, value: impl fmt::Display) {
    header(out, name, "gauge", help);
    line(out, format_args!("tempograph_{name} {value}"));
}

pub(crate) fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP tempograph_{name} {help}\n# TYPE tempograph_{name} {kind}"));
}

pub(crate) fn line(out: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}
