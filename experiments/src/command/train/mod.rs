//! `tempograph train`: from a spec to a report.

mod leader;
mod resume;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::Args;
use tempograph_trainers::{HistoryLocation, Outcome, RunFiles, TrainingRun};

use crate::command::export;
use crate::command::export::Until;
use crate::command::train::leader::Leader;
use crate::setup::data;
use crate::setup::device;
use crate::setup::model::build_learner;
use crate::setup::ranks::{ProcessRank, Transport};
use crate::setup::runs::Run;
use crate::setup::spec::RunSpec;
use crate::terminal::interrupt::{Interrupted, stop_on_signal};
use crate::terminal::print::{note, print, quoted};

/// Train a model from a TOML experiment, evaluate it, and write a report.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph train experiments/quickstart.toml
  tempograph train experiments/wikipedia.toml --set seed=1 --set train.lr=1e-3 --out runs/wiki-1
  tempograph train experiments/wikipedia.toml --resume        go on after Ctrl-C or a crash

Several processes share the work of a plan (section parallel of the spec), on one machine or more:
  mpirun -n 4 tempograph train experiments/wikipedia.toml --set parallel.memory=4
  srun -n 4 tempograph train …        torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) do as well

Ctrl-C and SIGTERM stop at the next batch and write a checkpoint; a second Ctrl-C stops at once.
The status is then 130 or 143.
A run's folder holds report.json, spec.toml, best.safetensors, checkpoint.safetensors, tensorboard/ and artifact/, and, while the
run writes to it, lock.")]
pub struct TrainArgs {
    /// The experiment; `tempograph new` writes one with every key explained.
    spec: PathBuf,
    /// Lay a setting over the spec, for example train.lr=1e-3.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The run's folder [default: runs/NAME].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run in the folder: from its checkpoint, or from the start where it was stopped before the first one. It may train
    /// longer (train.epochs), and on other threads, devices and processes; every other setting stays.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace a run that is there already. Its files go when the first epoch of the new one is complete; if the new one fails before, they
    /// come back. Other files in the folder stay.
    #[arg(long)]
    force: bool,
    /// Write which stage worked on which batch when, in Chrome's trace format (open it at ui.perfetto.dev); of several processes, the
    /// first does.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// What several processes talk over [default: nccl between GPUs, mpi under mpirun in a build with it, else tcp].
    #[arg(long)]
    transport: Option<Transport>,
    /// Print the report as JSON on standard output and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs the command: opens what the spec names, builds the learner, trains it, and in the first process tests it and reports.
///
/// # Errors
/// A spec, data or file problem, named; a loss that is not finite; another process that is gone.
pub fn run(args: &TrainArgs) -> Result<()> {
    let mut spec = RunSpec::read(&args.spec, &args.sets)?;
    let files = RunFiles { folder: args.out.clone().unwrap_or_else(|| Path::new("runs").join(&spec.name)) };
    let stop = stop_on_signal("stopping at the next batch")?;
    let process = ProcessRank::from_environment()?;
    device::init_thread_pool(process.threads(spec.threads))?;
    let device = process.device(&spec.device)?;
    device.check(spec.parallel.plan().lanes() / process.world_size())?;
    device::run_on_pool(|| {
        let mut exchange = process.connect(args.transport, &device, &spec, args.resume)?;
        let mut train = || -> Result<()> {
            let mut training_data = data::open_distributed(&mut *exchange, &spec.data)?;
            data::resolve(&mut spec, &mut training_data)?;
            let mut leader = if process.is_leader() {
                Some(Leader::prepare(args, &files, &stop, &spec, &training_data)?)
            } else {
                None
            };
            let built = build_learner(&spec, &training_data, &device)?;
            let mut learner = if process.is_leader() { built.print_notice() } else { built.learner };
            if let Some(leader) = &mut leader {
                leader.introduce(learner.parameters().values().len(), exchange.transport());
            }
            let training = TrainingRun {
                training_data: &training_data,
                train: &spec.train,
                parallel: &spec.parallel,
                eval: &spec.eval,
                seed: spec.seed,
                files: files.clone(),
                resume: args.resume,
                stop: &stop,
                trace: leader.as_ref().and_then(|leader| leader.trace.clone()),
            };
            let on_device = spec.parallel.history_location(learner.has_resident()) == HistoryLocation::Device;
            if process.is_leader() && on_device && !training.can_reside(&learner) {
                note(
                    "batches separate events of one time: the history stays in host memory, and the device trains from views of it",
                );
            }
            let trained = training.train(&mut *exchange, &mut learner, &mut leader).map_err(anyhow::Error::from);
            let stopped = matches!(trained, Ok(Outcome::Stopped(_)));
            let tested = trained
                .and_then(|outcome| leader.as_mut().map_or(Ok(true), |leader| leader.finish(outcome, &mut learner)));
            let tested = tested.map_err(|why| match &mut leader {
                Some(leader) => leader.fail(why),
                None => why,
            })?;
            if stopped {
                // Until the first process has written all: a launcher ends the others when one ends without success.
                let _ = exchange.all_gather(0..exchange.world(), &[]);
            }
            if stopped || !tested {
                return Err(Interrupted(String::new()).into());
            }
            // The folder stays locked until the artifact is there.
            let lock = leader.as_mut().and_then(|leader| leader.lock.take());
            let exports = process.is_leader() && spec.export;
            drop(leader);
            if exports {
                export_finished(args, Run { spec: spec.clone(), training_data, files: files.clone() }, &stop)?;
            }
            drop(lock);
            Ok(())
        };
        let done = train();
        if let Err(why) = &done {
            exchange.stop(&format!("{why:#}"));
        }
        done
    })
}

/// Exports a run that is finished. A failure is said and the run stays as it is.
///
/// # Errors
/// A signal that stopped it.
fn export_finished(args: &TrainArgs, run: Run, stop: &AtomicBool) -> Result<()> {
    let artifact = run.files.artifact();
    match export::write(&run, Until::Test, &artifact, true, stop) {
        Ok(_) if args.json => {}
        Ok(_) => {
            let _ = print(format!(
                "exported; serve it with\n  tempograph serve {}",
                quoted(&artifact.display().to_string())
            ));
        }
        Err(why) => note(format!("not exported: {why:#}")),
    }
    if stop.load(Ordering::Relaxed) { Err(Interrupted(String::new()).into()) } else { Ok(()) }
}
