//! `tempograph export`: a trained run as an artifact to serve.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use tempograph_serving::Export;
use tempograph_trainers::{BestModel, Evaluation, EvaluationTask, Part, evaluate, warm_up};

use crate::setup::data::{Questions, questions};
use crate::setup::device;
use crate::setup::model::model_with;
use crate::setup::runs::Run;
use crate::terminal::interrupt::{Interrupted, stop_on_signal};
use crate::terminal::print::{print, quoted};
use crate::terminal::tables::{MetricTable, negative_notes};

/// Export a trained run: its weights and its history.
#[derive(Args, Debug)]
#[command(
    after_help = "Training lets events happen a batch at a time, a server one by one, which leaves other memories. What that is worth is measured on the
test split and printed.

Examples:
  tempograph export runs/wikipedia --out wikipedia.artifact
  tempograph export runs/wikipedia --out before-test --until val     as evaluation on the test split begins
  tempograph serve wikipedia.artifact"
)]
pub struct ExportArgs {
    /// The run's folder.
    run: PathBuf,
    /// The artifact's folder.
    #[arg(long)]
    out: PathBuf,
    /// The last split that the exported history has observed.
    #[arg(long, value_enum, default_value = "test")]
    until: Until,
    /// Replace an existing artifact. Other files in its folder stay.
    #[arg(long)]
    force: bool,
    /// Do not measure accuracy event by event. Without this, it is compared with that in batches of training.
    #[arg(long)]
    quick: bool,
}

/// The part of the log that an artifact has observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// All but the test split.
    Val,
    /// All of it.
    Test,
}

/// Runs the command.
///
/// # Errors
/// A folder that holds no trained run, or an artifact that cannot be written.
pub fn run(args: &ExportArgs) -> Result<()> {
    let run = Run::open(&args.run, &[])?;
    let stop = stop_on_signal("stopping at the next batch")?;
    let seen = write(&run, args.until, &args.out, args.force, &stop)?;
    print(format!("exported {} with {seen} events seen", args.out.display()))?;
    if !args.quick && !run.training_data.range(Part::Test).is_empty() {
        print(device::run_on_pool(|| granularity(&run, &stop))?)?;
    }
    print(format!("serve it with\n  tempograph serve {}", quoted(&args.out.display().to_string())))
}

/// A table of the test metrics: in the batches of training, and event by event.
fn granularity(run: &Run, stop: &AtomicBool) -> Result<String> {
    let mut best = run.restore_before(Part::Test, stop)?;
    let (training_data, batch) = (&run.training_data, run.spec.train.batch);
    let Some(Questions { name, negatives }) = questions(&run.spec, training_data, Part::Test).into_iter().next() else {
        bail!("the spec has no rule for the negatives");
    };
    let mut examine = |batch: usize| -> Result<Evaluation> {
        let (range, new_nodes) = (training_data.range(Part::Test), Some(&training_data.new_nodes));
        let asked = EvaluationTask { range, batch, negatives: &negatives, rank_every: 1, new_nodes };
        let mut history = best.history.clone();
        let evaluation =
            evaluate(&mut best.model, &mut history, &training_data.dataset.log, &asked, stop, &mut |_| ())?;
        evaluation.ok_or_else(|| Interrupted("stopped before the end".into()).into())
    };
    let (trained, served) = (examine(batch)?, examine(1)?);
    let mut table = MetricTable::default();
    table.row(format!("by {batch}, as trained"), &trained.all);
    table.row("one by one, as served", &served.all);
    table.notes(negative_notes(&name, &trained));
    Ok(table.lines().join("\n"))
}

/// Writes the artifact of a run. Gives the number of events its history has observed.
pub(crate) fn write(run: &Run, until: Until, out: &Path, replace: bool, stop: &AtomicBool) -> Result<u64> {
    if run.spec.data.edge_columns().map_err(anyhow::Error::msg)?.is_some_and(|columns| columns > 0) {
        bail!(
            "data.edge_features = \"{}\" is for comparisons; a model that reads made-up zeros is not exported",
            run.spec.data.edge_features
        );
    }
    let BestModel { weights, mut history, .. } = run.best_model()?;
    let (training_data, batch) = (&run.training_data, run.spec.train.batch);
    if until == Until::Test {
        let mut model = run.model(weights.clone())?;
        if !warm_up(&mut model, &mut history, &training_data.dataset.log, training_data.range(Part::Test), batch, stop)?
        {
            return Err(Interrupted("stopped".into()).into());
        }
    }
    let model = model_with(&run.spec, training_data, weights)?;
    Export { model: &model, history: &history, dataset: &training_data.dataset, batch, replace }.write(out)?;
    Ok(history.seen())
}
