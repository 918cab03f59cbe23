//! A phase of load: every request has a moment to be sent, whatever happens to those before it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use tempograph_framework::{Draw, Purpose};
use tempograph_serving::Arrivals;

use crate::load::http::{Connection, Target};
use crate::load::material::Workload;
use crate::load::requests::{EventSender, Kind, Reader};
use crate::load::staleness::{ObservedPosition, SentEvents, staleness};
use crate::load::tally::{Quantiles, Tally, TallyReport};

/// How long an answer may take before the connection is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The settings of a phase, except its rates.
#[derive(Clone, Debug)]
pub(super) struct LoadSettings {
    pub arrivals: Arrivals,
    /// Of events and scores.
    pub deadline: Duration,
    pub rank_deadline: Duration,
    /// Whether the deadline is sent to the server.
    pub tells_deadline: bool,
    pub connections: usize,
    pub ingest_connections: usize,
    /// The largest number of events in a request.
    pub events: usize,
    /// Pairs of a request.
    pub pairs: usize,
    pub ack: &'static str,
    pub seed: u64,
}

/// Requests a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    pub events: f64,
    pub scores: f64,
    pub ranks: f64,
}

impl Rates {
    pub fn times(self, factor: f64) -> Rates {
        Rates { events: factor * self.events, scores: factor * self.scores, ranks: factor * self.ranks }
    }
}

/// The target of the load, and what it is made of.
#[derive(Debug)]
pub(super) struct PhaseRunner<'a> {
    pub target: &'a Target,
    pub material: &'a Workload,
    pub settings: &'a LoadSettings,
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
    /// Requests done, for a progress display.
    pub done: &'a AtomicU64,
}

/// The results of a phase.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PhaseReport {
    pub seconds: f64,
    pub wanted: Rates,
    pub events: TallyReport,
    pub scores: TallyReport,
    pub ranks: TallyReport,
    /// From the moment an event was to be sent until an answer had seen it.
    pub staleness: Quantiles,
}

impl PhaseReport {
    /// Whether nearly everything that was offered was answered in time.
    pub fn keeps_up(&self) -> bool {
        [&self.events, &self.scores, &self.ranks].iter().all(|tally| tally.kept() >= 0.95)
    }
}

/// A read and the moment to send it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScheduledRead {
    pub at: Duration,
    pub kind: Kind,
}

/// The state that the threads of a phase share.
pub(super) struct PhaseState<'a> {
    pub runner: &'a PhaseRunner<'a>,
    pub begin: Instant,
    pub reads: Vec<ScheduledRead>,
    pub next_read: AtomicUsize,
    pub events: Vec<Duration>,
    /// The next event's index in `events`, and its number in the log.
    pub next_event: Mutex<(usize, u64)>,
}

/// The results of one thread.
#[derive(Debug, Default)]
pub(super) struct ThreadResult {
    pub events: Tally,
    pub scores: Tally,
    pub ranks: Tally,
    pub sent: Vec<SentEvents>,
    pub seen: Vec<ObservedPosition>,
}

impl PhaseState<'_> {
    /// Waits until a moment of the phase. Gives false if the phase was stopped.
    pub fn wait_until(&self, at: Duration) -> bool {
        loop {
            if self.runner.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = at.saturating_sub(self.begin.elapsed());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

impl PhaseRunner<'_> {
    /// Runs a phase to its end, or until it is stopped.
    ///
    /// # Errors
    /// A server that does not report its position.
    pub fn run(&self, rates: Rates, length: Duration) -> Result<PhaseReport> {
        let draw = Draw::new(self.settings.seed).of(Purpose::Sampling);
        let moments = |rate: f64, index: u64| {
            if rate > 0.0 { self.settings.arrivals.moments(rate, length, &mut draw.at(0, index)) } else { Vec::new() }
        };
        let of = |kind: Kind, rate: f64, index: u64| {
            moments(rate, index).into_iter().map(move |at| ScheduledRead { at, kind })
        };
        let mut reads: Vec<ScheduledRead> =
            of(Kind::Score, rates.scores, 0).chain(of(Kind::Rank, rates.ranks, 1)).collect();
        reads.sort_by_key(|read| read.at);
        let running = PhaseState {
            runner: self,
            reads,
            next_read: AtomicUsize::new(0),
            events: moments(rates.events, 2),
            next_event: Mutex::new((0, position(self.target)?)),
            begin: Instant::now() + Duration::from_millis(20),
        };
        let noted = running.run_threads();
        let seconds = running.begin.elapsed().as_secs_f64().min(length.as_secs_f64());
        Ok(report(rates, seconds, noted))
    }
}

impl PhaseState<'_> {
    fn run_threads(&self) -> Vec<ThreadResult> {
        let settings = self.runner.settings;
        let seen = self.next_event.lock().unwrap_or_else(PoisonError::into_inner).1;
        std::thread::scope(|scope| {
            let tellers = if self.events.is_empty() { 0 } else { settings.ingest_connections };
            let readers = if self.reads.is_empty() { 0 } else { settings.connections.min(self.reads.len()) };
            let tellers = (0..tellers).map(|_| scope.spawn(|| EventSender::new(self).run()));
            let mut threads: Vec<_> = tellers.collect();
            threads
                .extend((0..readers).map(|reader| scope.spawn(move || Reader::new(self, seen, reader as u64).run())));
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        })
    }
}

fn report(wanted: Rates, seconds: f64, noted: Vec<ThreadResult>) -> PhaseReport {
    let mut all = ThreadResult::default();
    for mut one in noted {
        all.events.add(&one.events);
        all.scores.add(&one.scores);
        all.ranks.add(&one.ranks);
        all.sent.append(&mut one.sent);
        all.seen.append(&mut one.seen);
    }
    PhaseReport {
        seconds,
        wanted,
        events: all.events.report(seconds),
        scores: all.scores.report(seconds),
        ranks: all.ranks.report(seconds),
        staleness: staleness(&all.sent, all.seen),
    }
}

/// The server's description of its model.
///
/// # Errors
/// No server there, or one that does not answer `GET /v1/model` with JSON.
pub(super) fn model(target: &Target) -> Result<Value> {
    let mut connection = Connection::new(target, PATIENCE);
    let answer = connection.send("GET", "/v1/model", None, "");
    let answer = answer.map_err(|failure| anyhow::anyhow!("{}: {}", target.address, failure.name()))?;
    if answer.status != 200 {
        bail!("{}: GET /v1/model says {}: {}", target.address, answer.status, String::from_utf8_lossy(answer.body));
    }
    serde_json::from_slice(answer.body).with_context(|| format!("{}: GET /v1/model is not JSON", target.address))
}

/// The number of events that a server's answers have seen.
///
/// # Errors
/// As [`model`].
pub(super) fn position(target: &Target) -> Result<u64> {
    model(target)?["log_seq"].as_u64().context("GET /v1/model names no log_seq")
}

/// Waits until a server has applied what was submitted, for at most ten seconds.
///
/// # Errors
/// As [`model`].
pub(super) fn wait_until_applied(target: &Target, stop: &AtomicBool) -> Result<()> {
    let mut last = position(target)?;
    for _ in 0..40 {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(250));
        let now = position(target)?;
        if now == last {
            return Ok(());
        }
        last = now;
    }
    Ok(())
}
