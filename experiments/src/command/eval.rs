//! `tempograph eval`: evaluates a trained model again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::json;
use tempograph_framework::{Dataset, IdMap, NodeId, Store, write_atomic, write_atomic_with};
use tempograph_trainers::{BatchScores, Evaluation, EvaluationTask, Part, Report, evaluate};

use crate::setup::baselines::evaluate_baselines;
use crate::setup::data::{NEGATIVES, Questions, asks_tgb, questions};
use crate::setup::device;
use crate::setup::runs::{RestoredModel, Run};
use crate::terminal::interrupt::{Interrupted, stop_on_signal};
use crate::terminal::own_file::SCORES;
use crate::terminal::print::{note, print};
use crate::terminal::tables::{TgbResult, metric_table};

/// Evaluate a trained run again, with its own settings or others.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tempograph eval runs/wikipedia
  tempograph eval runs/wikipedia --set 'eval.rules=[\"historical\", \"inductive\"]'
  tempograph eval runs/wikipedia --split val --set eval.negatives=99 --json
  tempograph eval runs/wikipedia --scores scores.csv             every score of the first rule, with your own ids

The memory at the start of the split is that of the run: everything before it has been observed. With negatives of TGB (.pkl) the last line is\nthe result under the protocol of TGB.")]
pub struct EvalArgs {
    /// The run's folder.
    run: PathBuf,
    /// The split to evaluate.
    #[arg(long, value_enum, default_value = "test")]
    split: SplitName,
    /// Override a setting of the evaluation: a key of `eval`, data.negatives, threads or device, for example eval.negatives=99. What
    /// would change the model or its past is refused.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Write every scored pair under the first negative rule: `event`, `src`, `dst` (your own ids), `time` (ticks),
    /// `positive` (0 or 1) and `score` (logit), batch by batch. FILE.csv has a row for each pair. FILE.safetensors has an
    /// array for each column; arrays hold no text, so ids that are text are numbers there, and FILE.safetensors.ids.json
    /// lists them.
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,
    /// Print the metrics as JSON.
    #[arg(long)]
    json: bool,
}

/// The scored pairs and their scores.
#[derive(Default)]
struct Scores {
    event: Vec<u64>,
    src: Vec<NodeId>,
    dst: Vec<NodeId>,
    time: Vec<i64>,
    positive: Vec<u32>,
    score: Vec<f32>,
}

impl Scores {
    fn append(&mut self, answers: &BatchScores<'_>) {
        let queries = answers.queries;
        for (i, (pair, &score)) in queries.pairs().iter().zip(answers.scores).enumerate() {
            self.event.push(queries.log_positions()[pair.src as usize].0);
            self.src.push(queries.nodes()[pair.src as usize]);
            self.dst.push(queries.nodes()[pair.dst as usize]);
            self.time.push(queries.times()[pair.src as usize].0);
            self.positive.push(u32::from(i < queries.positives()));
            self.score.push(score);
        }
    }

    /// Writes them in the form that the name of the file says.
    fn write(self, path: &Path, dataset: &Dataset) -> Result<()> {
        if path.extension().is_some_and(|extension| extension == "csv") {
            return write_atomic_with(path, |file| self.write_csv(file, &dataset.ids))
                .with_context(|| format!("cannot write {}", path.display()));
        }
        self.write_arrays(path, &dataset.ids)?;
        if let Some(ids) = write_text_ids(dataset, path)? {
            note(format!(
                "note: the ids of this set are text, and arrays hold no text: {} lists the id of each number; --scores FILE.csv has \
                 the ids themselves",
                ids.display()
            ));
        }
        Ok(())
    }

    fn write_csv(&self, to: impl Write, ids: &IdMap) -> io::Result<()> {
        let mut file = csv::Writer::from_writer(to);
        file.write_record(["event", "src", "dst", "time", "positive", "score"])?;
        for i in 0..self.score.len() {
            let [event, time, positive, score] = [
                self.event[i].to_string(),
                self.time[i].to_string(),
                self.positive[i].to_string(),
                self.score[i].to_string(),
            ];
            file.write_record([
                &*event,
                &*ids.name(self.src[i]),
                &*ids.name(self.dst[i]),
                &*time,
                &*positive,
                &*score,
            ])?;
        }
        file.flush()
    }

    fn write_arrays(self, path: &Path, ids: &IdMap) -> Result<()> {
        let own = |nodes: &[NodeId]| nodes.iter().map(|&node| ids.external_id(node)).collect();
        let pairs = [self.score.len()];
        let mut store = Store::default();
        store.put("event", pairs, self.event);
        store.put("src", pairs, own(&self.src));
        store.put("dst", pairs, own(&self.dst));
        store.put("time", pairs, self.time);
        store.put("positive", pairs, self.positive);
        store.put("score", pairs, self.score);
        Ok(store.write(path)?)
    }
}

/// Writes the ids of a set, in the order of the numbers of its nodes, next to a file of numbers: a JSON list of text.
/// Nothing where ids are numbers.
fn write_text_ids(dataset: &Dataset, beside: &Path) -> Result<Option<PathBuf>> {
    if !dataset.ids.is_text() {
        return Ok(None);
    }
    let mut path = beside.as_os_str().to_owned();
    path.push(".ids.json");
    let path = PathBuf::from(path);
    let ids: Vec<_> = (0..dataset.nodes as u32).map(|node| dataset.ids.name(NodeId(node))).collect();
    write_atomic(&path, &serde_json::to_vec(&ids)?)
        .with_context(|| format!("{}: the ids are not written", path.display()))?;
    Ok(Some(path))
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
/// A folder that holds no trained run, or data other than that of the run.
pub fn run(args: &EvalArgs) -> Result<()> {
    args.scores.as_deref().map_or(Ok(()), |path| SCORES.check(path))?;
    let run = Run::open(&args.run, &args.sets)?;
    device::run_on_pool(|| evaluate_run(args, &run))
}

fn evaluate_run(args: &EvalArgs, run: &Run) -> Result<()> {
    let stop = stop_on_signal("stopping at the next batch")?;
    let part = match args.split {
        SplitName::Val => Part::Val,
        SplitName::Test => Part::Test,
    };
    let mut start = run.restore_before(part, &stop)?;
    let mut found: Vec<(String, Evaluation)> = Vec::new();
    for questions in questions(&run.spec, &run.training_data, part) {
        let mut scores = args.scores.as_ref().filter(|_| found.is_empty()).map(|path| (path, Scores::default()));
        let evaluation =
            evaluate_part(run, &mut start, part, &questions, &stop, scores.as_mut().map(|(_, scores)| scores))?;
        if let Some((path, scores)) = scores {
            scores.write(path, &run.training_data.dataset)?;
        }
        found.push((questions.name, evaluation));
    }
    let floors = if part == Part::Test && run.spec.eval.floors {
        evaluate_baselines(&run.spec, &run.training_data, &stop)?
    } else {
        Vec::new()
    };
    let tgb = match &found[..] {
        [(_, evaluation)] if asks_tgb(&run.spec) => Some(tgb_result(run, part, evaluation, start.mark.epoch, &stop)?),
        _ => None,
    };
    if args.json {
        let by_rule: serde_json::Map<_, _> = found
            .iter()
            .map(|(rule, evaluation)| Ok((rule.clone(), serde_json::to_value(evaluation)?)))
            .collect::<Result<_>>()?;
        let mut said = json!({ "epoch": start.mark.epoch, "by_rule": by_rule, "floors": floors });
        if let Some(tgb) = tgb {
            said["tgb"] = json!({ "test_mrr": tgb.test, "val_mrr": tgb.val, "lookups": tgb.lookups() });
        }
        return print(format!("{said:#}"));
    }
    let by_rule: Vec<(&str, &Evaluation)> = found.iter().map(|(rule, found)| (rule.as_str(), found)).collect();
    let mut lines = metric_table(&run.spec.name, &by_rule, &floors);
    lines.extend(tgb.map(|tgb| tgb.to_string()));
    print(lines.join("\n"))
}

/// Evaluates one part under one rule from `start`, which stays as it is.
fn evaluate_part(
    run: &Run,
    start: &mut RestoredModel,
    part: Part,
    questions: &Questions,
    stop: &AtomicBool,
    mut scores: Option<&mut Scores>,
) -> Result<Evaluation> {
    let range = run.training_data.range(part);
    let bar = ProgressBar::with_draw_target(Some(range.len() as u64), ProgressDrawTarget::stderr());
    let task = EvaluationTask {
        range: range.clone(),
        batch: run.spec.train.batch,
        negatives: &questions.negatives,
        rank_every: 1,
        new_nodes: Some(&run.training_data.new_nodes),
    };
    let mut heard = |answers: &BatchScores<'_>| {
        bar.set_position((answers.first.index() - range.start) as u64);
        if let Some(scores) = &mut scores {
            scores.append(answers);
        }
    };
    let mut history = start.history.clone();
    let log = &run.training_data.dataset.log;
    let evaluation = evaluate(&mut start.model, &mut history, log, &task, stop, &mut heard)?;
    bar.finish_and_clear();
    evaluation.ok_or_else(|| Interrupted("stopped before the end".into()).into())
}

/// The result under TGB's protocol. The part that was not asked about is the run's own, if the run was asked about these negatives;
/// otherwise it is evaluated now.
fn tgb_result(run: &Run, part: Part, found: &Evaluation, epoch: usize, stop: &AtomicBool) -> Result<TgbResult> {
    let lookups = run.spec.needs()?.lookup;
    let report = Report::read(&run.files.report()).ok().filter(|report| report.best_epoch == Some(epoch));
    let own = |part: Part| {
        let report = report.as_ref()?;
        let key = NEGATIVES[part as usize];
        let same = report.data.sources.0.get(key) == run.training_data.sources.0.get(key);
        let of_run = TgbResult::of_run(report, lookups);
        if part == Part::Val { of_run.val } else { of_run.test }.filter(|_| same)
    };
    let other = match part {
        Part::Val => Part::Test,
        Part::Test => Part::Val,
    };
    let mrr = match own(other) {
        Some(mrr) => mrr,
        None => {
            let mut start = run.restore_before(other, stop)?;
            let questions = questions(&run.spec, &run.training_data, other);
            evaluate_part(run, &mut start, other, &questions[0], stop, None)?.all.mrr
        }
    };
    let [val, test] = if part == Part::Val { [found.all.mrr, mrr] } else { [mrr, found.all.mrr] };
    Ok(TgbResult { test: Some(test), val: Some(val), lookups })
}
