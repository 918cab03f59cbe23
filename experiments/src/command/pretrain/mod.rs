//! `tempograph pretrain`: trains static memory on the training events.

mod learn;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tempograph_framework::{StaticMemory, StaticOrigin, Table};
use tempograph_models::PretrainSpec;
use tempograph_trainers::TrainingData;

use crate::setup::data;
use crate::setup::device;
use crate::setup::spec::RunSpec;
use crate::terminal::interrupt::{Interrupted, stop_on_signal};
use crate::terminal::own_file::STATIC_MEMORY;
use crate::terminal::print::{note, print};
use crate::terminal::progress::style;
use learn::{PretrainProgress, PretrainedVectors, Pretraining};

/// Train a static vector for each node on the training events of a spec, for models with [model.static].
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph pretrain experiments/wikipedia.toml
  tempograph train experiments/wikipedia.toml --set model.static.how=concat
  tempograph pretrain mine.toml --set model.static.width=64 --out mine-64.safetensors     and data.static_memory names it

It is learned from the events of the training split and nothing else; a run with another split refuses it. Ctrl-C writes nothing.")]
pub struct PretrainArgs {
    /// The experiment: its data, seed, [pretrain], and the widths in [model].
    spec: PathBuf,
    /// Override a setting of the spec, for example pretrain.epochs=20.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// The file to write [default: data.static_memory, or static.safetensors in the data's folder].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    /// Print the results as JSON on standard output, and nothing else.
    #[arg(long)]
    json: bool,
}

/// The settings that the vectors depend on, besides the events. Their origin records them.
#[derive(Serialize)]
struct OriginSettings<'a> {
    val: f64,
    test: f64,
    hold_out: f64,
    width: usize,
    decoder_width: usize,
    epochs: usize,
    pretrain: &'a PretrainSpec,
}

/// Runs the command.
///
/// # Errors
/// A problem of the spec, the data or a file, with its name. A file that exists already. A loss that is not finite.
/// Ctrl-C.
pub fn run(args: &PretrainArgs) -> Result<()> {
    let spec = RunSpec::read(&args.spec, &args.sets)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => data::static_path(&spec.data)?,
    };
    STATIC_MEMORY.check(&out)?;
    if out.exists() && !args.force {
        bail!("{} exists; --force replaces it", out.display());
    }
    let stop = stop_on_signal("stopping at the next batch")?;
    device::init_thread_pool(spec.threads)?;
    device::run_on_pool(|| pretrain(args, &spec, &out, &stop))
}

fn pretrain(args: &PretrainArgs, spec: &RunSpec, out: &std::path::Path, stop: &AtomicBool) -> Result<()> {
    let training_data = data::open(&spec.data)?;
    let begun = Instant::now();
    let (set, train) = (&training_data.dataset, training_data.split.train.clone());
    let widths = widths(spec, &training_data)?;
    let learning = Pretraining {
        log: &set.log,
        train: train.clone(),
        nodes: set.nodes,
        widths,
        spec: &spec.pretrain,
        seed: spec.seed,
        stop,
    };
    let shown = ProgressDisplay::new(spec, args.json);
    let learned = learning.run(&mut |heard| shown.show(heard));
    shown.bar.finish_and_clear();
    let Some(learned) = learned? else { return Err(Interrupted("stopped; nothing was written".into()).into()) };
    let origin = StaticOrigin::new(set, train, spec.seed, text(spec, widths, &learned)?);
    StaticMemory::new(Table::new(learned.vectors.clone(), widths[0])?, origin)
        .write(out)
        .with_context(|| format!("cannot write {}", out.display()))?;
    say(args, &training_data, &learned, widths[0], out, begun.elapsed().as_secs_f64())
}

/// Width of the vectors, and of the decoder that is trained with them: that of the model.
fn widths(spec: &RunSpec, training_data: &TrainingData) -> Result<[usize; 2]> {
    let Some(reads) = spec.model.static_memory() else {
        bail!("model.kind = \"{}\" reads no static memory: there is nothing to learn for it", spec.model.kind())
    };
    Ok([reads.width, spec.program(training_data)?.head().width()])
}

fn text(spec: &RunSpec, [width, decoder_width]: [usize; 2], learned: &PretrainedVectors) -> Result<String> {
    Ok(toml::to_string(&OriginSettings {
        val: spec.data.val,
        test: spec.data.test,
        hold_out: spec.data.hold_out,
        width,
        decoder_width,
        epochs: learned.epochs,
        pretrain: &spec.pretrain,
    })?)
}

fn say(
    args: &PretrainArgs,
    training_data: &TrainingData,
    learned: &PretrainedVectors,
    width: usize,
    out: &std::path::Path,
    seconds: f64,
) -> Result<()> {
    let (set, events) = (&training_data.dataset, training_data.split.train.len());
    let known = learned.vectors.chunks_exact(width).filter(|row| row.iter().any(|x| *x != 0.0)).count();
    if args.json {
        let tail = learned.tail.map(|tail| serde_json::json!({ "loss": tail.loss, "ap": tail.ap }));
        let text = serde_json::json!({
            "out": out, "name": set.name, "events": events, "nodes": set.nodes, "known_nodes": known, "width": width, "epochs": learned.epochs,
            "tail": tail, "seconds": seconds,
        });
        return print(format!("{text:#}"));
    }
    let tail =
        learned.tail.map_or_else(String::new, |tail| format!(" (tail AP {:.4}, loss {:.4})", tail.ap, tail.loss));
    print(format!(
        "{}: {events} training events, {known} of {} nodes, {} passes{tail}, {seconds:.1} s; written to {}",
        set.name,
        set.nodes,
        learned.epochs,
        out.display()
    ))
}

/// On a terminal a progress bar, elsewhere a line for each pass.
struct ProgressDisplay {
    bar: ProgressBar,
    most: usize,
    quiet: bool,
}

impl ProgressDisplay {
    fn new(spec: &RunSpec, quiet: bool) -> ProgressDisplay {
        let bar = if quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        bar.set_style(style("{prefix:>14} {wide_bar} {pos}/{len} {rate:>10} eta {eta:>4}"));
        ProgressDisplay { bar, most: spec.pretrain.epochs, quiet }
    }

    fn show(&self, heard: PretrainProgress) {
        match heard {
            PretrainProgress::Events { epoch, done, of } => {
                if done <= self.bar.position() as usize {
                    self.bar.reset();
                }
                self.bar.set_prefix(format!("pass {epoch}"));
                self.bar.set_length(of as u64);
                self.bar.set_position(done as u64);
            }
            PretrainProgress::Passed { epoch, loss, tail } => {
                let held_out = format!("held-out loss {:.4}  AP {:.4}", tail.loss, tail.ap);
                self.line(&format!("pass {epoch:>3}/{}  loss {loss:.4}  {held_out}", self.most));
            }
            PretrainProgress::FinalPasses { epochs } => {
                self.line(&format!("once more over all training events, {epochs} passes"))
            }
        }
    }

    fn line(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| note(line));
        }
    }
}
