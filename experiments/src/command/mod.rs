//! The command line: parses it, and runs the subcommand.
pub mod eval;
pub mod export;
pub mod models;
pub mod new;
pub mod plan;
pub mod prepare;
pub mod pretrain;
pub mod report;
pub mod serve;
mod shell;
pub mod train;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tempograph_kernels::cpu::SimdLevel;
use tempograph_models::Registry;

use crate::setup::device;
use crate::terminal::interrupt::{Interrupted, exit_status, explain_cut_files};
use crate::terminal::print::note;
use crate::{bench, fetch, load};

/// Train temporal graph networks with node memory, and serve them.
#[derive(Parser)]
#[command(
    name = "tempograph",
    version,
    after_help = "From nothing to a served model:
  tempograph train experiments/quickstart.toml
  tempograph serve runs/quickstart/artifact

On real data:
  tempograph fetch wikipedia
  tempograph prepare downloads/wikipedia/wikipedia.csv --out data/wikipedia
  tempograph train experiments/wikipedia.toml

TEMPOGRAPH_CPU=avx2 (or baseline, or avx512) keeps the kernels to these instructions of the CPU, where it has better ones."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Prepare(prepare::PrepareArgs),
    Fetch(fetch::FetchArgs),
    Plan(plan::PlanArgs),
    Pretrain(pretrain::PretrainArgs),
    Train(train::TrainArgs),
    Eval(eval::EvalArgs),
    Report(report::ReportArgs),
    Export(export::ExportArgs),
    Serve(serve::ServeArgs),
    Load(load::LoadArgs),
    Bench(bench::BenchArgs),
    Devices(device::DevicesArgs),
    Models(models::ModelsArgs),
    New(new::NewArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Runs the command line of this process, in which specs and artifacts may name the kinds of `registry`. A program of your own that has
/// kinds of its own is one call of this.
pub fn run(registry: Registry) -> ExitCode {
    if registry.install().is_err() {
        note("error: this process has a registry of models already");
        return ExitCode::FAILURE;
    }
    explain_cut_files();
    let matches = command_line().get_matches();
    let command = CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    if let Err(why) = SimdLevel::chosen() {
        return report_error(&anyhow::Error::msg(why));
    }
    let done = match command {
        Command::Prepare(args) => prepare::run(&args),
        Command::Fetch(args) => fetch::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Devices(args) => device::run(&args),
        Command::Models(args) => models::run(&args),
        Command::New(args) => new::run(&args),
        Command::Completions(args) => shell::completions(&args, command_line()),
        Command::Man(args) => shell::man(&args, command_line()),
    };
    done.map_or_else(|error| report_error(&error), |()| ExitCode::SUCCESS)
}

/// Prints the chain of causes on one line, without the backtrace that `Debug` may add: it is the user's mistake, not ours.
fn report_error(error: &anyhow::Error) -> ExitCode {
    let text = format!("{error:#}");
    // A run that was stopped has said so.
    if !text.is_empty() {
        note(if error.is::<Interrupted>() { text } else { format!("error: {text}") });
    }
    exit_status(error)
}

/// The command line with what `--version` prints of this build and this machine.
fn command_line() -> clap::Command {
    CommandLine::command().long_version(shell::version())
}
