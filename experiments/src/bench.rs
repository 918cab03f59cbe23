//! `tempograph bench`: training throughput, alone or beside a peer on the same events, turn by turn.

mod peer;

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tempograph_trainers::{Fit, RunFiles, Stages, StepRecord, Watch, peak_memory_bytes};

use crate::data;
use crate::device::{self, Device};
use crate::model::trainee;
use crate::spec::RunSpec;
use peer::PygPeer;

/// Measure training throughput, by stage, alone or beside a peer.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph bench experiments/wikipedia.toml
  tempograph bench experiments/wikipedia.toml --peer pyg --pairs 5
  tempograph bench experiments/wikipedia.toml --peer pyg --python ~/venv/bin/python --set threads=1 --json

Both sides train on the same first batches of the same events with the same batch, widths and threads, each in a process of its
own, in turn; the ratio is the median over the pairs. The peer needs a Python with torch, torch_geometric, numpy, pandas and
scikit-learn (experiments/peers/requirements.txt).")]
pub struct BenchArgs {
    /// The experiment whose model, batch and data are measured.
    spec: PathBuf,
    /// Lay a setting over the spec.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Measure a peer beside it.
    #[arg(long, value_enum)]
    peer: Option<Peer>,
    /// The peer's Python.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Pairs of runs, or runs without a peer.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Steps a run.
    #[arg(long, default_value_t = 200)]
    steps: usize,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// Measure once, in this process, and print that as JSON: what each run of a comparison does.
    #[arg(long, hide = true)]
    once: bool,
}

/// A system to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// PyTorch Geometric's TGN example.
    Pyg,
}

/// One run's measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Measured {
    events_per_second: f64,
    seconds: f64,
    peak_memory_bytes: u64,
    /// Seconds by stage, by name.
    stages: serde_json::Map<String, serde_json::Value>,
}

/// Runs the command.
///
/// # Errors
/// A spec or data problem, or a peer that does not run.
pub fn run(args: &BenchArgs) -> Result<()> {
    let spec = RunSpec::read(&args.spec, &args.sets)?;
    if args.steps == 0 || args.pairs == 0 {
        bail!("--steps {} and --pairs {} must be at least 1", args.steps, args.pairs);
    }
    if args.once {
        device::use_threads(spec.threads)?;
        let measured = device::on_a_computing_thread(|| measure(&spec, args.steps))?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    let peer = args.peer.map(|Peer::Pyg| PygPeer::new(&args.python, &spec, args.steps)).transpose()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..args.pairs {
        ours.push(measure_apart(args)?);
        if let Some(peer) = &peer {
            theirs.push(peer.measure()?);
        }
        eprintln!("run {} of {}: {}", turn + 1, args.pairs, rates(&ours, &theirs));
    }
    show(args, &spec, &ours, &theirs)
}

fn rates(ours: &[Measured], theirs: &[Measured]) -> String {
    let last = |runs: &[Measured]| runs.last().map_or(String::new(), |run| format!("{:.0} events/s", run.events_per_second));
    if theirs.is_empty() { last(ours) } else { format!("tempograph {}, pyg {}", last(ours), last(theirs)) }
}

/// Trains the first steps of an epoch and says how fast.
fn measure(spec: &RunSpec, steps: usize) -> Result<Measured> {
    let mut spec = spec.clone();
    let mut course = data::open(&spec.data)?;
    data::resolve(&mut spec, &course);
    course.split.train.end = course.split.train.end.min(steps * spec.train.batch);
    let mut model = trainee(&spec, &course, Device::parse(&spec.device)?)?;
    let nowhere = RunFiles { folder: PathBuf::new() };
    let stop = AtomicBool::new(false);
    let train = tempograph_trainers::TrainSpec { checkpoint_minutes: 0.0, ..spec.train.clone() };
    let fit = Fit { course: &course, train: &train, eval: &spec.eval, seed: spec.seed, files: nowhere, resume: false, stop: &stop };
    let mut sum = Sum::default();
    fit.train_once(&mut *model, &mut sum)?;
    let serde_json::Value::Object(stages) = serde_json::to_value(sum.stages)? else { bail!("stages are an object") };
    let seconds = sum.stages.total();
    Ok(Measured { events_per_second: sum.events as f64 / seconds, seconds, peak_memory_bytes: peak_memory_bytes(), stages })
}

#[derive(Default)]
struct Sum {
    events: usize,
    stages: Stages,
}

impl Watch for Sum {
    fn step(&mut self, _: usize, _: usize, _: usize, record: &StepRecord) {
        self.events += record.events;
        self.stages.add(&record.stages);
    }
}

/// Measures in a process of its own, so that neither side warms or crowds the other's memory.
fn measure_apart(args: &BenchArgs) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.arg("bench").arg(&args.spec).args(["--once", "--steps", &args.steps.to_string()]);
    args.sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let output = command.output()?;
    if !output.status.success() {
        bail!("a measuring run failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn show(args: &BenchArgs, spec: &RunSpec, ours: &[Measured], theirs: &[Measured]) -> Result<()> {
    let rate = |runs: &[Measured]| median(runs.iter().map(|run| run.events_per_second));
    let ratio = median(ours.iter().zip(theirs).map(|(a, b)| a.events_per_second / b.events_per_second));
    if args.json {
        let settings =
            serde_json::json!({ "data": spec.data.path, "batch": spec.train.batch, "steps": args.steps, "threads": spec.threads });
        let all = serde_json::json!({
            "settings": settings, "ratio": ratio, "tempograph": { "events_per_second": rate(ours), "runs": ours },
            "pyg": rate(theirs).map(|rate| serde_json::json!({ "events_per_second": rate, "runs": theirs })),
        });
        println!("{all:#}");
        return Ok(());
    }
    println!("{}, batch {}, {} steps, median of {} runs", spec.data.path, spec.train.batch, args.steps, args.pairs);
    for (name, runs) in [("tempograph", ours), ("pyg", theirs)] {
        let Some(rate) = rate(runs) else { continue };
        let peak = runs.iter().map(|run| run.peak_memory_bytes).max().unwrap_or(0);
        println!("{name:<12} {rate:>9.0} events/s   peak {:>6} MB   {}", peak >> 20, shares(runs));
    }
    if let Some(ratio) = ratio {
        println!("ratio        {ratio:>9.2}");
    }
    Ok(())
}

/// Median share of each stage.
fn shares(runs: &[Measured]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let of = |name: &str| median(runs.iter().filter_map(|run| Some(run.stages.get(name)?.as_f64()? / run.seconds)));
    let named = first.stages.keys().filter_map(|name| Some(format!("{name} {:.0} %", 100.0 * of(name)?)));
    named.collect::<Vec<_>>().join(", ")
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(0.5 * (values[middle - 1] + values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
