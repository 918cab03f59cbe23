//! `tempograph eval`: a trained model on other questions.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget};
use tempograph_kernels::tensor::Cpu;
use tempograph_trainers::{Evaluation, Examination, Part, evaluate};

use crate::device;
use crate::runs::Run;
use crate::train::{floors, metric_row, metric_title, rule_name, stop_on_ctrl_c};

/// Evaluate a trained run, under its own rules or others.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph eval runs/wikipedia
  tempograph eval runs/wikipedia --set 'eval.rules=[\"historical\", \"inductive\"]'
  tempograph eval runs/wikipedia --split val --set eval.negatives=99 --json

The memory at the start of the split is that of the run: everything before it has been observed.")]
pub struct EvalArgs {
    /// The run's folder.
    run: PathBuf,
    /// The split to examine.
    #[arg(long, value_enum, default_value = "test")]
    split: SplitName,
    /// Lay a setting over the run's spec, for example eval.negatives=99.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print the metrics as JSON.
    #[arg(long)]
    json: bool,
}

/// A split by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SplitName {
    Val,
    Test,
}

/// Runs the command.
///
/// # Errors
/// A folder that holds no trained run, or data that is not the run's.
pub fn run(args: &EvalArgs) -> Result<()> {
    let run = Run::open(&args.run, &args.sets)?;
    device::use_threads(run.spec.threads)?;
    let stop = stop_on_ctrl_c()?;
    let part = match args.split {
        SplitName::Val => Part::Val,
        SplitName::Test => Part::Test,
    };
    let start = run.before(part, &stop)?;
    let range = run.course.range(part);
    let mut found: Vec<(String, Evaluation)> = Vec::new();
    for &rule in &run.spec.eval.rules {
        let bar = ProgressBar::with_draw_target(Some(range.len() as u64), ProgressDrawTarget::stderr());
        let negatives = run.course.negatives(part, rule, &run.spec.eval);
        let new_nodes = Some(&run.course.new_nodes);
        let asked = Examination { range: range.clone(), batch: run.spec.train.batch, negatives: &negatives, rank_every: 1, new_nodes };
        let mut history = start.history.clone();
        let log = &run.course.dataset.log;
        let mut heard = |answers: &tempograph_trainers::Answers<'_>| bar.set_position((answers.first.index() - range.start) as u64);
        let evaluation = evaluate::<Cpu, _>(&start.model, &mut history, log, &asked, &stop, &mut heard)?;
        bar.finish_and_clear();
        match evaluation {
            Some(evaluation) => found.push((rule_name(rule), evaluation)),
            None => bail!("stopped before the end"),
        }
    }
    let floors = if part == Part::Test && run.spec.eval.floors { floors(&run.spec, &run.course, &stop)? } else { Vec::new() };
    if args.json {
        let by_rule: serde_json::Map<_, _> =
            found.iter().map(|(rule, evaluation)| Ok((rule.clone(), serde_json::to_value(evaluation)?))).collect::<Result<_>>()?;
        println!("{:#}", serde_json::json!({ "epoch": start.mark.epoch, "by_rule": by_rule, "floors": floors }));
        return Ok(());
    }
    println!("{}", metric_title());
    for (rule, evaluation) in &found {
        println!("{}", metric_row(&format!("{} ({rule})", run.spec.name), &evaluation.all));
        if let Some(new) = &evaluation.new_nodes {
            println!("{}", metric_row(&format!("  {} new-node events", new.count), new));
        }
    }
    floors.iter().for_each(|floor| println!("{}", metric_row(&floor.name, &floor.test)));
    Ok(())
}
