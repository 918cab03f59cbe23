//! `tempograph bench`: training throughput, alone or compared with peers on the same events, in alternating runs. Also:
//! cost over the length of the history, the time of one served event, and the time of a server's recovery.
mod compare;
mod configuration;
mod measure;
pub(crate) mod numbers;
mod peer;
mod recovery;
mod roofline;
mod scale;
mod serve;
mod strategies;
mod table;

pub(crate) use table::aligned;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::setup::spec::RunSpec;
use crate::terminal::print::print;
use configuration::configurations;

/// Measure training throughput by stage, alone or compared with a peer. With --scale, --serve or --recovery: cost over
/// the length of the history, the time of one served event, or the time of a restart.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph bench experiments/wikipedia.toml
  tempograph bench experiments/paired/wikipedia.toml --peer pyg --batch 200,600 --threads 1,2 --edge-features none,zeros:172
  tempograph bench experiments/wikipedia.toml --peer pyg --python ~/venv/bin/python --set threads=1 --json
  tempograph bench experiments/wikipedia.toml --serve --json
  tempograph bench experiments/wikipedia.toml --serve --strategies --set model.time_delta=since-update
  tempograph bench experiments/wikipedia.toml --scale --out experiments/results
  tempograph bench experiments/wikipedia.toml --recovery --out experiments/results

Both sides train on the same first batches of the same events with the same batch, widths and threads, each in a process of its
own, in turn; the ratio is the median over the pairs. A peer is installed when it is first asked for, into a folder of the user's
cache; --python names one that is there, with torch, torch_geometric, numpy, pandas and scikit-learn.")]
pub struct BenchArgs {
    /// The experiment. Its model, batch and data are measured.
    spec: PathBuf,
    /// Override a setting of the spec.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// A peer to compare with.
    #[arg(long, value_enum, value_delimiter = ',')]
    peer: Vec<Peer>,
    /// The peer's Python [default: one installed for it].
    #[arg(long)]
    python: Option<PathBuf>,
    /// Batch sizes to measure [default: the spec's].
    #[arg(long, value_delimiter = ',', value_name = "EVENTS")]
    batch: Vec<usize>,
    /// Numbers of threads to measure [default: the spec's].
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Edge features to measure: real, none, zeros:N [default: the spec's].
    #[arg(long, value_delimiter = ',', value_name = "FEATURES")]
    edge_features: Vec<String>,
    /// Pairs of runs; without a peer, runs.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Steps of a run. With --serve, steps trained before the measurement.
    #[arg(long, default_value_t = 200)]
    steps: usize,
    /// Events of a run, in place of --steps: as many steps as have them, for any batch. With --serve, events served
    /// (2000); with --scale, lengths of the history (1e5, 1e6 and 1e7 events).
    #[arg(long, value_delimiter = ',')]
    events: Vec<usize>,
    /// Measure the cost of an event over the length of the history, on the built-in stream.
    #[arg(long, conflicts_with_all = ["peer", "serve", "batch", "threads", "edge_features"])]
    scale: bool,
    /// Measure the time of one event served at a time: update and score, in this process.
    #[arg(long, conflicts_with_all = ["peer", "batch", "threads", "edge_features"])]
    serve: bool,
    /// With --serve, measure events submitted in waves instead, and all destinations ranked after each request by every
    /// strategy.
    #[arg(long, requires = "serve")]
    strategies: bool,
    /// Measure how long a server takes to restart with a log of --events events (1e6 and 1e7), on the built-in stream.
    #[arg(long, conflicts_with_all = ["peer", "serve", "scale", "batch", "threads", "edge_features"])]
    recovery: bool,
    /// With --scale or --recovery, also write the table into this folder, as scale.md (with a plot) or recovery.md.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
    /// Measure once, in this process, and print JSON. Each run of a comparison does this.
    #[arg(long, hide = true)]
    once: bool,
    /// With --once, first observe the events before this one, without training.
    #[arg(long, hide = true, default_value_t = 0)]
    from: usize,
}

/// A system to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// PyTorch Geometric's TGN example.
    Pyg,
    /// TGM's TGN example (tgm-lib).
    Tgm,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Pyg => "pyg",
            Peer::Tgm => "tgm",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A problem of the spec or the data, or a peer that does not run.
pub fn run(args: &BenchArgs) -> Result<()> {
    if args.steps == 0 || args.pairs == 0 || args.events.contains(&0) {
        bail!("--steps {}, --pairs {} and --events must be at least 1", args.steps, args.pairs);
    }
    if args.scale {
        return scale::run(args);
    }
    if args.recovery {
        return recovery::run(args);
    }
    if args.out.is_some() {
        bail!("--out is for --scale and --recovery");
    }
    if args.events.len() > 1 {
        bail!("--events takes one number without --scale or --recovery");
    }
    if args.once {
        let spec = RunSpec::read(&args.spec, &args.sets)?;
        print(serde_json::to_string(&measure::once(&spec, args.steps, args.from)?)?)?;
        return Ok(());
    }
    if args.serve {
        return serve::run(args);
    }
    compare::run(args, &configurations(args)?)
}
