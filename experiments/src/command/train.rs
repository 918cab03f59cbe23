//! `tempograph train`: from a spec to a report.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::Args;
use tempograph_framework::{History, LinkMetrics, NegativeRule, Scorer, TensorScorer};
use tempograph_kernels::tensor::Cpu;
use tempograph_models::Heuristic;
use tempograph_trainers::{
    Baseline, BestModel, Evaluation, EvaluationTask, Exchange, Outcome, Part, REPORT_SCHEMA, Report, RunFiles, Status,
    TensorBoardWriter, Timeline, Trace, TrainingData, TrainingObserver, TrainingRun, TrainingSummary, evaluate,
    peak_memory_bytes, read_best_model, warm_up,
};

use crate::command::export;
use crate::command::export::Until;
use crate::setup::data;
use crate::setup::device;
use crate::setup::device::Device;
use crate::setup::model::build_learner;
use crate::setup::ranks::{ProcessRank, Transport};
use crate::setup::runs::Run;
use crate::setup::spec::RunSpec;
use crate::terminal::interrupt::stop_on_signal;
use crate::terminal::progress::{Observers, Terminal};

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
    /// Go on with the run in the folder: from its checkpoint, or from the start where it was stopped before the first one.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace a run that is there already.
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

/// Runs the command.
///
/// # Errors
/// A spec, data or file problem, named; a loss that is not finite; another process that is gone.
pub fn run(args: &TrainArgs) -> Result<()> {
    let spec = RunSpec::read(&args.spec, &args.sets)?;
    let files = RunFiles { folder: args.out.clone().unwrap_or_else(|| Path::new("runs").join(&spec.name)) };
    let stop = stop_on_signal("stopping at the next batch")?;
    let process = ProcessRank::from_environment()?;
    device::init_thread_pool(process.threads(spec.threads))?;
    let device = process.device(&spec.device)?;
    device.check(spec.parallel.plan().lanes() / process.world_size())?;
    let run = TrainCommand { args, files: &files, stop: &stop, is_leader: process.is_leader() };
    device::run_on_pool(|| {
        let mut exchange = process.connect(args.transport, &device, &spec, args.resume)?;
        let done = run.train(spec, &device, &mut *exchange);
        if let Err(why) = &done {
            exchange.stop(&format!("{why:#}"));
        }
        done
    })
}

/// Which keys of two specs differ, with their values.
fn differences(before: &str, now: &str) -> String {
    let [was, is] = [before, now].map(|text| {
        let mut keys = BTreeMap::new();
        if let Ok(table) = text.parse::<toml::Table>() {
            flatten("", &table, &mut keys);
        }
        keys
    });
    let value = |keys: &BTreeMap<String, String>, key: &str| keys.get(key).map_or("left out".into(), String::clone);
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).filter(|key| was.get(*key) != is.get(*key)).collect();
    let said = keys.into_iter().map(|key| format!("{key} is {} and was {}", value(&is, key), value(&was, key)));
    said.collect::<Vec<_>>().join(", ")
}

/// The keys of a table and of those in it, dotted.
fn flatten(before: &str, table: &toml::Table, keys: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(table) => flatten(&format!("{before}{key}."), table, keys),
            value => _ = keys.insert(format!("{before}{key}"), value.to_string()),
        }
    }
}

fn make_folder(files: &RunFiles, spec: &RunSpec, args: &TrainArgs) -> Result<()> {
    let folder = &files.folder;
    if args.resume && !files.spec().exists() {
        bail!("{} holds no run to resume; leave --resume out to start", folder.display());
    }
    if args.resume {
        let before =
            std::fs::read_to_string(files.spec()).with_context(|| format!("cannot read {}", files.spec().display()))?;
        let now = spec.to_toml()?;
        if before != now {
            bail!(
                "the spec differs from that of the run in {} ({}): {}; resume with the same settings",
                folder.display(),
                files.spec().display(),
                differences(&before, &now)
            );
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

struct TrainCommand<'a> {
    args: &'a TrainArgs,
    files: &'a RunFiles,
    stop: &'a AtomicBool,
    /// Whether this process prints, tests and writes; one of several does.
    is_leader: bool,
}

impl TrainCommand<'_> {
    fn train(&self, mut spec: RunSpec, device: &Device, exchange: &mut dyn Exchange) -> Result<()> {
        let mut training_data = data::open_distributed(exchange, &spec.data)?;
        data::resolve(&mut spec, &mut training_data)?;
        if !self.is_leader {
            let mut learner = build_learner(&spec, &training_data, device)?.learner;
            self.training_run(&spec, &training_data, None).run_distributed(
                exchange,
                &mut learner,
                &mut Observers(Vec::new()),
            )?;
            return Ok(());
        }
        make_folder(self.files, &spec, self.args)?;
        let mut learner = build_learner(&spec, &training_data, device)?.print_notice();
        let mut report = self.blank_report(&spec, &training_data, learner.parameters().values().len())?;
        report.transport = exchange.transport().map(String::from);
        self.say(&introduction(&report));
        if let Some(notice) = incomplete_pass_warning(&spec) {
            eprintln!("{notice}");
        }
        report.write(&self.files.report())?;

        let mut terminal = Terminal::new(spec.train.epochs, self.args.json);
        let mut board = TensorBoardWriter::new(&self.files.board(), 10);
        let trace = self.trace(exchange.rank())?;
        let fit = self.training_run(&spec, &training_data, trace.clone());
        let outcome = fit.run_distributed(exchange, &mut learner, &mut Observers(vec![&mut terminal, &mut board]))?;
        if let (Some(trace), Some(path)) = (trace, &self.args.trace) {
            let timeline = trace.finish().and_then(|()| Timeline::read(path));
            let (all, hidden) =
                timeline.with_context(|| format!("cannot write the trace {}", path.display()))?.hidden();
            terminal.done();
            // An empty sum is -0.
            let share = 100.0 * hidden.max(0.0) / all.max(f64::MIN_POSITIVE);
            self.say(&format!("{all:.1} s of sampling and reading memories, {share:.1} % beside the training"));
        }
        let (finished, fitted) = match outcome {
            Outcome::Finished(fitted) => (true, fitted),
            Outcome::Stopped(fitted) => (false, fitted),
        };
        add_summary(&mut report, fitted);
        let tested = finished && {
            let BestModel { weights, history, .. } =
                read_best_model(&self.files.best(), learner.needs(), training_data.features.clone())?;
            learner.restore_weights(weights)?;
            self.test(&spec, &training_data, &mut learner, &history, &mut report, &mut terminal)?
        };
        terminal.done();
        report.status = if tested { Status::Finished } else { Status::Stopped };
        report.peak_memory_bytes = peak_memory_bytes();
        report.write(&self.files.report())?;
        if let Some(test) = &report.test {
            board.evaluation("test", test);
        }
        if tested {
            self.conclude(spec, training_data, &report)?;
        } else {
            self.say(&format!("stopped; go on with `tempograph train {} --resume`", self.command()));
        }
        if self.args.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        }
        Ok(())
    }

    /// A timeline to be filled, by the first process, if one is asked for.
    fn trace(&self, rank: usize) -> Result<Option<Arc<Trace>>> {
        let create = |path: &PathBuf| {
            Trace::create(path, 0).with_context(|| format!("cannot write the trace {}", path.display()))
        };
        Ok(self.args.trace.as_ref().filter(|_| rank == 0).map(create).transpose()?.map(Arc::new))
    }

    fn training_run<'a>(
        &'a self,
        spec: &'a RunSpec,
        training_data: &'a TrainingData,
        trace: Option<Arc<Trace>>,
    ) -> TrainingRun<'a> {
        TrainingRun {
            training_data,
            train: &spec.train,
            parallel: &spec.parallel,
            eval: &spec.eval,
            seed: spec.seed,
            files: self.files.clone(),
            resume: self.args.resume,
            stop: self.stop,
            trace,
        }
    }

    /// The kept model on the test split under every rule, and the floors beside it. `before` has seen all that precedes the split.
    /// `false` if stopped.
    fn test(
        &self,
        spec: &RunSpec,
        training_data: &TrainingData,
        best: &mut dyn Scorer,
        before: &History,
        report: &mut Report,
        watch: &mut dyn TrainingObserver,
    ) -> Result<bool> {
        let range = training_data.range(Part::Test);
        for &rule in &spec.eval.rules {
            let negatives = training_data.negatives(Part::Test, rule, &spec.eval);
            let asked = EvaluationTask {
                range: range.clone(),
                batch: spec.train.batch,
                negatives: &negatives,
                rank_every: 1,
                new_nodes: Some(&training_data.new_nodes),
            };
            let mut history = before.clone();
            let mut heard = |answers: &tempograph_trainers::BatchScores<'_>| {
                watch.evaluation_progress("test", answers.first.index() - range.start, range.len())
            };
            let Some(evaluation) =
                evaluate(best, &mut history, &training_data.dataset.log, &asked, self.stop, &mut heard)?
            else {
                return Ok(false);
            };
            report.test.get_or_insert_with(|| evaluation.clone());
            report.test_by_rule.insert(rule_name(rule), evaluation);
        }
        if spec.eval.floors {
            report.floors = evaluate_baselines(spec, training_data, self.stop)?;
        }
        Ok(true)
    }

    fn conclude(&self, spec: RunSpec, training_data: TrainingData, report: &Report) -> Result<()> {
        self.say(&conclusion(report, &self.files.folder));
        if spec.export {
            let artifact = self.files.folder.join("artifact");
            let run = Run { spec, training_data, files: self.files.clone() };
            match export::write(&run, Until::Test, &artifact, true, self.stop) {
                Ok(_) => self.say(&format!("exported; serve it with\n  tempograph serve {}", artifact.display())),
                Err(why) => eprintln!("not exported: {why:#}"),
            }
        }
        Ok(())
    }

    fn blank_report(&self, spec: &RunSpec, training_data: &TrainingData, parameters: usize) -> Result<Report> {
        Ok(Report {
            schema: REPORT_SCHEMA,
            name: spec.name.clone(),
            status: Status::Running,
            seed: spec.seed,
            threads: device::threads(),
            device: spec.device.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: option_env!("TEMPOGRAPH_COMMIT").map(String::from),
            spec: serde_json::to_value(spec)?,
            data: data::report(training_data),
            parameters,
            epochs: Vec::new(),
            steps: 0,
            weights_sha256: None,
            history_sha256: None,
            best_epoch: None,
            test: None,
            test_by_rule: BTreeMap::new(),
            floors: Vec::new(),
            peak_memory_bytes: 0,
            history_bytes: 0,
            transport: None,
            processes: Vec::new(),
            seconds: 0.0,
        })
    }

    fn command(&self) -> String {
        let sets: String = self.args.sets.iter().map(|set| format!(" --set {set}")).collect();
        let out = self.args.out.as_ref().map_or_else(String::new, |out| format!(" --out {}", out.display()));
        format!("{}{sets}{out}", self.args.spec.display())
    }

    fn say(&self, what: &str) {
        if !self.args.json {
            // A run goes on when nobody reads what it says.
            let _ = writeln!(std::io::stdout(), "{what}");
        }
    }
}

fn add_summary(report: &mut Report, fitted: TrainingSummary) {
    report.best_epoch = fitted.best.map(|mark| mark.epoch);
    report.epochs = fitted.epochs;
    report.steps = fitted.steps;
    (report.weights_sha256, report.history_sha256) = (Some(fitted.weights_sha256), Some(fitted.history_sha256));
    report.seconds = fitted.seconds;
    report.history_bytes = fitted.history_bytes;
    report.processes = fitted.processes;
}

/// EdgeBank and last-10 on the test split, on the same questions and under the same lookup as the model.
///
/// # Errors
/// As evaluation.
pub fn evaluate_baselines(spec: &RunSpec, training_data: &TrainingData, stop: &AtomicBool) -> Result<Vec<Baseline>> {
    let (time, test) = (training_data.dataset.log.time(), training_data.range(Part::Test));
    let history = spec.needs()?.lookup;
    let window = time.last().map_or(0, |last| last.0 - time[test.start].0);
    let rules = [
        Heuristic::EdgeBank { window: None, history },
        Heuristic::EdgeBank { window: Some(window), history },
        Heuristic::LastK { k: 10, history },
    ];
    let negatives = training_data.negatives(Part::Test, spec.eval.rules[0], &spec.eval);
    let mut floors = Vec::new();
    for rule in rules {
        let mut model = TensorScorer::<Cpu, _>::new(rule);
        let mut past = training_data.history(model.needs());
        let log = &training_data.dataset.log;
        let asked = EvaluationTask {
            range: test.clone(),
            batch: spec.train.batch,
            negatives: &negatives,
            rank_every: 1,
            new_nodes: None,
        };
        let warmed = warm_up(&mut model, &mut past, log, 0..test.start, spec.train.batch, stop)?;
        let found = if warmed { evaluate(&mut model, &mut past, log, &asked, stop, &mut |_| ())? } else { None };
        if let Some(Evaluation { all, .. }) = found {
            floors.push(Baseline { name: rule.name(), history, test: all });
        }
    }
    Ok(floors)
}

/// The rule's name as a spec has it.
pub(crate) fn rule_name(rule: NegativeRule) -> String {
    serde_json::to_value(rule).ok().and_then(|value| value.as_str().map(String::from)).unwrap_or_default()
}

/// What to say where a plan's histories will not have come to the end of the training split when training ends.
fn incomplete_pass_warning(spec: &RunSpec) -> Option<String> {
    let (plan, epochs) = (spec.parallel.plan(), spec.train.epochs);
    let passes = plan.passes();
    (!epochs.is_multiple_of(passes)).then(|| {
        format!(
            "train.epochs = {epochs}: the histories of the plan {plan} are passed once in {passes} epochs, and will be on their way at the end; \
             the model is examined there after another walk over the training split, which counts against it. Choose a multiple of {passes}"
        )
    })
}

fn introduction(report: &Report) -> String {
    let data = &report.data;
    format!(
        "{}: {} events, {} nodes, {} edge and {} node features; trains on {}, validates on {}, tests on {}\n{} parameters, {} threads on {}",
        data.name,
        data.events,
        data.nodes,
        data.edge_features,
        data.node_features,
        data.split[0],
        data.split[1] - data.split[0],
        data.events - data.split[1],
        report.parameters,
        report.threads,
        report.device
    )
}

pub(crate) fn metric_title() -> String {
    format!("{:<28} {:>7} {:>7} {:>7} {:>8}", "test", "AP", "AUC", "MRR", "Hits@10")
}

pub(crate) fn metric_row(name: &str, metrics: &LinkMetrics) -> String {
    format!("{name:<28} {:>7.4} {:>7.4} {:>7.4} {:>8.4}", metrics.ap, metrics.auc, metrics.mrr, metrics.hits10)
}

fn conclusion(report: &Report, folder: &Path) -> String {
    let mut lines = vec![metric_title()];
    for (rule, evaluation) in &report.test_by_rule {
        lines.push(metric_row(&format!("{} ({rule})", report.name), &evaluation.all));
        lines.extend(
            evaluation.new_nodes.iter().map(|new| metric_row(&format!("  {} new-node events", new.count), new)),
        );
    }
    lines.extend(report.floors.iter().map(|floor| metric_row(&floor.name, &floor.test)));
    lines.push(format!(
        "best epoch {}, {:.0} s, {} MB; report in {}",
        report.best_epoch.unwrap_or(0),
        report.seconds,
        report.peak_memory_bytes >> 20,
        folder.join("report.json").display()
    ));
    lines.join("\n")
}
