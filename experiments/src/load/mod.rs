//! `tempograph load`: how much load a server can take, and what its users see under it.

mod http;
mod material;
mod phase;
mod policies;
mod requests;
mod saturation;
mod staleness;
mod tally;

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tempograph_framework::Dataset;
use tempograph_serving::Arrivals;

use http::Target;
use material::Workload;
use phase::{LoadSettings, PhaseReport, PhaseRunner, Rates, model, wait_until_applied};
use tally::TallyReport;

use crate::terminal::interrupt::{Interrupted, stop_on_signal};
use crate::terminal::print::print;
use crate::terminal::progress::style;

/// Put load on a server and measure what its users see.
#[derive(Args, Debug, Clone)]
#[command(
    after_help = "The load is open: every request has a moment at which it is to be sent, whatever became of those before it, and its
latency counts from that moment. So a server that stalls is charged for everybody who would have waited (no coordinated omission).
Goodput is what was answered within --deadline-ms. A request that finds all connections busy for a quarter of that is given up and counted
as not sent, as by a pool of connections: past saturation those still have time that are sent.

Events are those of a prepared set, sent in order from the end of the server's log on, again and again; reads are of pairs and sources
of events the server has seen. Events that are due go together in one request, on one connection, so that none is late: more
connections (--ingest-connections) want a server with `late = \"apply-now\"`. Staleness is the time from when an event was to be sent
until an answer had seen it.

Load generator and server share this machine's cores where both run on it.

Examples:
  tempograph load http://127.0.0.1:8080 --data data/wikipedia --rate 2000
  tempograph load 127.0.0.1:8080 --data data/wikipedia --mix ingest=50,score=49,rank=1 --arrivals bursty --seconds 30
  tempograph load 127.0.0.1:8080 --data data/wikipedia --find-saturation --json > load.json
  tempograph load --policies 100,50 --arrivals bursty      # the scheduler's policies, simulated; no server"
)]
pub struct LoadArgs {
    /// The server: http://HOST:PORT or HOST:PORT.
    #[arg(required_unless_present = "policies")]
    url: Option<String>,
    /// The prepared set whose events are sent, or synthetic:…. It must be the set of the server's artifact.
    #[arg(long, required_unless_present = "policies")]
    data: Option<String>,
    /// Operations a second, all kinds together. An operation is an event, or a request to score or rank.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// The kinds of operations, by weight.
    #[arg(long, default_value = "ingest=50,score=50,rank=0")]
    mix: String,
    /// Length of each measurement in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How requests arrive: poisson (independent users), bursty (a tenth of the time eight times as fast), or replay
    /// (the set's own times, sped up).
    #[arg(long, value_enum, default_value_t = Pattern::Poisson)]
    arrivals: Pattern,
    /// The deadline of an answer, in milliseconds.
    #[arg(long, default_value_t = 50)]
    deadline_ms: u64,
    /// The deadline of a ranking, if it is another one.
    #[arg(long)]
    rank_deadline_ms: Option<u64>,
    /// Do not send deadlines. The server then uses its own `scheduler.deadline_ms`, or none.
    #[arg(long, conflicts_with = "rank_deadline_ms")]
    untold: bool,
    /// Connections for reads.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Connections for events.
    #[arg(long, default_value_t = 1)]
    ingest_connections: usize,
    /// The largest number of events in one request.
    #[arg(long, default_value_t = 512)]
    events_per_request: usize,
    /// Number of pairs in one score request.
    #[arg(long, default_value_t = 1)]
    pairs: usize,
    /// When an event counts as acknowledged.
    #[arg(long, value_enum, default_value_t = Acknowledged::Durable)]
    ack: Acknowledged,
    /// Find the largest rate that the server sustains (95 % of every kind answered in time), then measure at --at times
    /// it.
    #[arg(long)]
    find_saturation: bool,
    /// Shares of the rate to measure. With --find-saturation, shares of the rate that was found.
    #[arg(long, value_delimiter = ',')]
    at: Vec<f64>,
    /// Length of each try of the search for saturation, in seconds.
    #[arg(long, default_value_t = 2.0)]
    try_seconds: f64,
    /// Seconds of load at a quarter of the rate before the measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// A bearer token with the roles `ingest` and `read`.
    #[arg(long)]
    token: Option<String>,
    /// The tenant of the requests, where there is no token.
    #[arg(long)]
    tenant: Option<String>,
    /// Seed of arrivals and pairs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Compare the scheduler's policies on a simulated machine instead. Give the microseconds of a pass and of a pair
    /// in it, such as 100,50.
    #[arg(long, value_name = "PASS,PAIR")]
    policies: Option<String>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

impl LoadArgs {
    fn rank_deadline_ms(&self) -> u64 {
        self.rank_deadline_ms.unwrap_or(self.deadline_ms)
    }
}

/// A pattern of arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pattern {
    Poisson,
    Bursty,
    Replay,
}

/// A level of acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Acknowledged {
    Accepted,
    Durable,
    Applied,
}

impl Acknowledged {
    fn word(self) -> &'static str {
        match self {
            Acknowledged::Accepted => "accepted",
            Acknowledged::Durable => "durable",
            Acknowledged::Applied => "applied",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// No server, a set that does not fit its model, or options that contradict each other.
pub fn run(args: &LoadArgs) -> Result<()> {
    if let Some(machine) = &args.policies {
        return compare_policies(args, machine);
    }
    let stop = stop_on_signal("stopping after what is being measured")?;
    let report = measure(args, &stop)?;
    if args.json {
        print(format!("{report:#}"))?;
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Interrupted("stopped before all was measured".into()).into());
    }
    Ok(())
}

fn compare_policies(args: &LoadArgs, machine: &str) -> Result<()> {
    let moments = || -> Result<Vec<f64>> {
        let data = args.data.as_deref().context("--arrivals replay needs --data")?;
        Ok(Workload::new(Dataset::from_spec(data)?, 0)?.moments())
    };
    let arrivals = arrivals(args.arrivals, moments)?;
    let deadline = Duration::from_millis(args.deadline_ms);
    let rows = policies::compare(policies::machine(machine)?, &arrivals, args.seconds, deadline, args.seed);
    if args.json {
        print(format!("{:#}", Value::from(rows)))?;
    } else {
        policies::show(&rows)?;
    }
    Ok(())
}

fn arrivals(pattern: Pattern, moments: impl FnOnce() -> Result<Vec<f64>>) -> Result<Arrivals> {
    Ok(match pattern {
        Pattern::Poisson => Arrivals::Poisson,
        Pattern::Bursty => Arrivals::Bursty,
        Pattern::Replay => Arrivals::Replay(moments()?),
    })
}

/// Measures until done or until `stop` is set. Gives the results as JSON. Prints rows during the measurement, unless
/// JSON is wanted.
///
/// # Errors
/// As [`run`].
pub fn measure(args: &LoadArgs, stop: &AtomicBool) -> Result<Value> {
    check(args)?;
    let url = args.url.as_deref().context("no server is named")?;
    let target = Target::parse(url, args.token.clone(), args.tenant.clone())?;
    let said = model(&target)?;
    let width = said["manifest"]["widths"]["edge"].as_u64().unwrap_or(0) as usize;
    let data = args.data.as_deref().context("no data are named")?;
    let set = Dataset::from_spec(data).with_context(|| format!("--data {data}"))?;
    let material = Workload::new(set, width)?;
    let settings = LoadSettings {
        arrivals: arrivals(args.arrivals, || Ok(material.moments()))?,
        deadline: Duration::from_millis(args.deadline_ms),
        rank_deadline: Duration::from_millis(args.rank_deadline_ms()),
        tells_deadline: !args.untold,
        connections: args.connections,
        ingest_connections: args.ingest_connections,
        events: args.events_per_request,
        pairs: args.pairs,
        ack: args.ack.word(),
        seed: args.seed,
    };
    let done = AtomicU64::new(0);
    let runner = PhaseRunner { target: &target, material: &material, settings: &settings, stop, done: &done };
    let mut session = Session { args, runner, unit: mix(&args.mix)?, rows: Vec::new() };
    session.measure()?;
    let Session { rows, .. } = session;
    Ok(json!({
        "server": url, "model": said["model"], "data": data, "mix": args.mix, "arrivals": format!("{:?}", args.arrivals).to_lowercase(),
        "deadline_ms": args.deadline_ms, "rank_deadline_ms": args.rank_deadline_ms(), "untold": args.untold,
        "connections": args.connections, "ack": settings.ack, "pairs": args.pairs,
        "stopped": stop.load(Ordering::Relaxed), "phases": rows,
    }))
}

fn check(args: &LoadArgs) -> Result<()> {
    for (name, value) in [("--rate", args.rate), ("--seconds", args.seconds), ("--try-seconds", args.try_seconds)] {
        if !(value > 0.0 && value.is_finite()) {
            bail!("{name} is {value}; it has to be above 0");
        }
    }
    let counts = [
        ("--connections", args.connections),
        ("--ingest-connections", args.ingest_connections),
        ("--events-per-request", args.events_per_request),
        ("--pairs", args.pairs),
        ("--deadline-ms", args.deadline_ms as usize),
        ("--rank-deadline-ms", args.rank_deadline_ms() as usize),
    ];
    if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
        bail!("{name} is 0; it has to be at least 1");
    }
    Ok(())
}

/// Parses the parts of one operation a second: `ingest=50,score=50,rank=0`.
fn mix(text: &str) -> Result<Rates> {
    let mut rates = Rates::default();
    for part in text.split(',') {
        let (kind, weight) =
            part.split_once('=').with_context(|| format!("--mix: `{part}` is not KIND=WEIGHT, such as score=50"))?;
        let weight: f64 = weight
            .trim()
            .parse()
            .ok()
            .filter(|weight| *weight >= 0.0)
            .with_context(|| format!("--mix: `{weight}` is not a weight"))?;
        match kind.trim() {
            "ingest" => rates.events = weight,
            "score" => rates.scores = weight,
            "rank" => rates.ranks = weight,
            other => bail!("--mix: there is no `{other}`; there are ingest, score and rank"),
        }
    }
    let sum = rates.events + rates.scores + rates.ranks;
    if sum <= 0.0 {
        bail!("--mix: all weights are 0");
    }
    Ok(rates.times(1.0 / sum))
}

/// One run of the command.
struct Session<'a> {
    args: &'a LoadArgs,
    runner: PhaseRunner<'a>,
    /// Rates of one operation a second.
    unit: Rates,
    rows: Vec<Value>,
}

impl Session<'_> {
    fn measure(&mut self) -> Result<()> {
        if self.args.warm_up > 0.0 {
            self.phase("warming up", self.args.rate / 4.0, self.args.warm_up)?;
        }
        let shares = |default: &[f64]| if self.args.at.is_empty() { default.to_vec() } else { self.args.at.clone() };
        let (base, shares) = if self.args.find_saturation {
            let Some(found) = self.saturation()? else { return Ok(()) };
            if found == 0.0 {
                bail!(
                    "the server does not keep up with any load that was tried; is --deadline-ms {} too short?",
                    self.args.deadline_ms
                );
            }
            self.say(&format!("saturation: {found:.0} operations a second"));
            (found, shares(&[0.5, 1.0, 1.5]))
        } else {
            (self.args.rate, shares(&[1.0]))
        };
        self.say(&heading());
        for share in shares {
            if self.stopped() {
                break;
            }
            let report = self.phase(&format!("{share}x"), share * base, self.args.seconds)?;
            lines(share, &report).iter().for_each(|line| self.say(line));
            self.rows.push(json!({ "share": share, "rate": share * base, "report": report }));
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.runner.stop.load(Ordering::Relaxed)
    }

    fn saturation(&self) -> Result<Option<f64>> {
        saturation::saturation(self.args.rate, |rate| {
            let report = self.phase(&format!("trying {rate:.0}/s"), rate, self.args.try_seconds)?;
            Ok((!self.stopped()).then(|| report.keeps_up()))
        })
    }

    fn phase(&self, name: &str, rate: f64, seconds: f64) -> Result<PhaseReport> {
        wait_until_applied(self.runner.target, self.runner.stop)?;
        let bar = bar(name, (rate * seconds) as u64);
        self.runner.done.store(0, Ordering::Relaxed);
        let ended = AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    bar.set_position(self.runner.done.load(Ordering::Relaxed));
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let report = self.runner.run(self.unit.times(rate), Duration::from_secs_f64(seconds));
            ended.store(true, Ordering::Relaxed);
            report
        });
        bar.finish_and_clear();
        report
    }

    fn say(&self, line: &str) {
        if !self.args.json {
            // A measurement goes on when nobody reads it.
            let _ = print(line);
        }
    }
}

fn bar(name: &str, length: u64) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(length) } else { ProgressBar::hidden() };
    bar.set_style(style("{prefix:>16} {wide_bar} {pos}/{len} {rate:>10} {elapsed:>4}"));
    bar.set_prefix(name.to_string());
    bar
}

fn heading() -> String {
    let names = ["load", "kind", "offered/s", "goodput/s", "in time", "p50 ms", "p99 ms", "p99.9 ms", "max ms"];
    let [load, kind, offered, goodput, kept, p50, p99, p999, max] = names;
    format!("{load:>5}  {kind:<9} {offered:>10} {goodput:>10} {kept:>8} {p50:>8} {p99:>8} {p999:>9} {max:>8}  errors")
}

/// The rows of a phase.
fn lines(share: f64, report: &PhaseReport) -> Vec<String> {
    let kinds = [("event", &report.events), ("score", &report.scores), ("rank", &report.ranks)];
    let mut lines: Vec<String> = kinds
        .iter()
        .filter(|(_, tally)| tally.offered_per_second > 0.0)
        .map(|(kind, tally)| line(share, kind, tally))
        .collect();
    let stale = report.staleness;
    if stale.count > 0 {
        let (p50, p99, p999, max) = (stale.p50_ms, stale.p99_ms, stale.p999_ms, stale.max_ms);
        lines.push(format!(
            "{share:>5}  {:<9} {:>10} {:>10} {:>8} {p50:>8.2} {p99:>8.2} {p999:>9.2} {max:>8.1}",
            "staleness", "", "", ""
        ));
    }
    lines
}

fn line(share: f64, kind: &str, tally: &TallyReport) -> String {
    let (offered, goodput, kept, latency) =
        (tally.offered_per_second, tally.goodput_per_second, 100.0 * tally.kept(), tally.latency);
    let errors: Vec<String> = tally.errors.iter().map(|(what, count)| format!("{what}: {count}")).collect();
    format!(
        "{share:>5}  {kind:<9} {offered:>10.0} {goodput:>10.0} {kept:>7.1}% {:>8.2} {:>8.2} {:>9.2} {:>8.1}  {}",
        latency.p50_ms,
        latency.p99_ms,
        latency.p999_ms,
        latency.max_ms,
        errors.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_by_weight_and_what_it_is_not_is_named() {
        assert_eq!(mix("ingest=1,score=3").unwrap(), Rates { events: 0.25, scores: 0.75, ranks: 0.0 });
        for (text, expected) in [
            ("ingest", "KIND=WEIGHT"),
            ("score=x", "not a weight"),
            ("sing=1", "there is no `sing`"),
            ("rank=0", "all weights"),
        ] {
            let error = mix(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
