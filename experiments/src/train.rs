//! `tempograph train`: from a spec to a report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use burn::module::{AutodiffModule, Module};
use clap::Args;
use tempograph_framework::{History, Lookup, Model, NegativeRule};
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::{AutodiffBackend, Cpu};
use tempograph_models::{Heuristic, Tgn};
use tempograph_trainers::{
    Board, Course, Evaluation, Examination, Fit, Fitted, Floor, Kept, Outcome, Part, REPORT_SCHEMA, Report, RunFiles, Status, Watch, evaluate, kept,
    peak_memory_bytes, warm,
};

use crate::device::{self, Device};
use crate::progress::{All, Terminal};
use crate::spec::RunSpec;
use crate::{data, export};

/// Train a model from a TOML experiment, evaluate it, and write a report.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph train experiments/quickstart.toml
  tempograph train experiments/wikipedia.toml --set seed=1 --set train.lr=1e-3 --out runs/wiki-1
  tempograph train experiments/wikipedia.toml --resume        go on after Ctrl-C or a crash

Ctrl-C stops at the next batch and writes a checkpoint; a second Ctrl-C stops at once.
A run's folder holds report.json, spec.toml, best.safetensors, checkpoint.safetensors, tensorboard/ and artifact/.")]
pub struct TrainArgs {
    /// The experiment; `tempograph new` writes one with every key explained.
    spec: PathBuf,
    /// Lay a setting over the spec, for example train.lr=1e-3.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The run's folder [default: runs/NAME].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the folder's checkpoint.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace a run that is there already.
    #[arg(long)]
    force: bool,
    /// Print the report as JSON on standard output and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A spec, data or file problem, named; a loss that is not finite.
pub fn run(args: &TrainArgs) -> Result<()> {
    let spec = RunSpec::read(&args.spec, &args.sets)?;
    let files = RunFiles { folder: args.out.clone().unwrap_or_else(|| Path::new("runs").join(&spec.name)) };
    make_folder(&files, &spec, args)?;
    let stop = stop_on_ctrl_c()?;
    device::use_threads(spec.threads)?;
    let run = TrainRun { args, files: &files, stop: &stop };
    match Device::parse(&spec.device)? {
        Device::Cpu => run.on::<tempograph_kernels::tensor::CpuTape>(spec, &Default::default()),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => run.on::<tempograph_kernels::tensor::CudaTape>(spec, &device::cuda(index)?),
    }
}

fn make_folder(files: &RunFiles, spec: &RunSpec, args: &TrainArgs) -> Result<()> {
    let folder = &files.folder;
    if args.resume && !files.checkpoint().exists() {
        bail!("{} has no checkpoint to resume from; leave --resume out to start", folder.display());
    }
    if args.resume {
        let before = std::fs::read_to_string(files.spec()).with_context(|| format!("cannot read {}", files.spec().display()))?;
        if before != spec.to_toml()? {
            bail!("the spec differs from that of the run in {} ({}); resume with the same settings", folder.display(), files.spec().display());
        }
        return Ok(());
    }
    if files.report().exists() && !args.force {
        let hint = "--resume goes on with it, --force replaces it, --out DIR puts the new one elsewhere";
        bail!("{} holds a run already: {hint}", folder.display());
    }
    for old in [files.checkpoint(), files.best(), files.report()] {
        if old.exists() {
            std::fs::remove_file(&old).with_context(|| format!("cannot replace {}", old.display()))?;
        }
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    std::fs::write(files.spec(), spec.to_toml()?).with_context(|| format!("cannot write {}", files.spec().display()))
}

/// A flag that Ctrl-C and SIGTERM set; the second time the process ends at once.
///
/// # Errors
/// If no handler can be installed.
pub fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping at the next batch; press Ctrl-C again to stop at once");
    })?;
    Ok(stop)
}

struct TrainRun<'a> {
    args: &'a TrainArgs,
    files: &'a RunFiles,
    stop: &'a AtomicBool,
}

impl TrainRun<'_> {
    fn on<B>(&self, mut spec: RunSpec, device: &B::Device) -> Result<()>
    where
        B: AutodiffBackend + TemporalOps,
        B::InnerBackend: TemporalOps,
    {
        let course = data::open(&spec.data)?;
        resolve(&mut spec, &course);
        let model = Tgn::<B>::new(spec.tgn(), data::widths(&course), spec.seed, device);
        let mut report = self.blank_report(&spec, &course, model.num_params())?;
        self.say(&introduction(&report));
        report.write(&self.files.report())?;

        let mut terminal = Terminal::new(spec.train.epochs, self.args.json);
        let mut board = Board::new(&self.files.board(), 10);
        let blank = model.valid();
        let fit = Fit {
            course: &course,
            train: &spec.train,
            eval: &spec.eval,
            seed: spec.seed,
            files: self.files.clone(),
            resume: self.args.resume,
            stop: self.stop,
        };
        let outcome = fit.run(model, device, &mut All(vec![&mut terminal, &mut board]))?;
        if let Outcome::Stopped(fitted) = outcome {
            terminal.done();
            return self.stopped(report, fitted);
        }
        let (Outcome::Finished(fitted) | Outcome::Stopped(fitted)) = outcome;
        take(&mut report, fitted);
        let best = kept::<B::InnerBackend, _>(&self.files.best(), blank, Model::<B::InnerBackend>::needs(&model_of(&spec, &course, device)), course.features.clone())?;
        let Some(after) = self.test(&spec, &course, &best, &mut report, &mut terminal)? else {
            terminal.done();
            return self.stopped_report(report);
        };
        terminal.done();
        if let Some(test) = &report.test {
            board.evaluation("test", test);
        }
        report.status = Status::Finished;
        report.peak_memory_bytes = peak_memory_bytes();
        report.write(&self.files.report())?;
        self.say(&conclusion(&report, &self.files.folder));
        if spec.export {
            self.export(&spec, &course, &after)?;
        }
        if self.args.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Ok(())
    }
}
