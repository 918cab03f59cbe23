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
    Baseline, BatchScores, BestModel, EpochReport, Evaluation, EvaluationTask, Learner, Outcome, Part, REPORT_SCHEMA,
    Report, RunFiles, Status, StepRecord, TensorBoardWriter, Timeline, Trace, TrainError, TrainingData,
    TrainingObserver, TrainingRun, TrainingSummary, evaluate, peak_memory_bytes, read_best_model, warm_up,
};

use crate::command::export;
use crate::command::export::Until;
use crate::setup::data;
use crate::setup::device;
use crate::setup::model::build_learner;
use crate::setup::ranks::{ProcessRank, Transport};
use crate::setup::runs::Run;
use crate::setup::spec::RunSpec;
use crate::terminal::interrupt::stop_on_signal;
use crate::terminal::progress::Terminal;

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
            let outcome = training.train(&mut *exchange, &mut learner, &mut leader)?;
            let tested = leader.as_mut().map_or(Ok(false), |leader| leader.finish(outcome, &mut learner))?;
            if tested && spec.export {
                export_finished(args, Run { spec: spec.clone(), training_data, files: files.clone() }, &stop);
            }
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
fn export_finished(args: &TrainArgs, run: Run, stop: &AtomicBool) {
    let artifact = run.files.folder.join("artifact");
    match export::write(&run, Until::Test, &artifact, true, stop) {
        Ok(_) if args.json => {}
        Ok(_) => print_line(&format!("exported; serve it with\n  tempograph serve {}", artifact.display())),
        Err(why) => eprintln!("not exported: {why:#}"),
    }
}

/// Prints a line. A run goes on when nobody reads it.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
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

/// Refuses a folder that the run may not write to: `--resume` without the same run there, a run there without `--force`.
fn check_folder(files: &RunFiles, spec: &RunSpec, args: &TrainArgs) -> Result<()> {
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
    Ok(())
}

/// What the first process does besides training: it prints, tests and writes.
struct Leader<'a> {
    args: &'a TrainArgs,
    files: &'a RunFiles,
    stop: &'a AtomicBool,
    spec: &'a RunSpec,
    training_data: &'a TrainingData,
    report: Report,
    terminal: Terminal,
    /// Opened when the run starts.
    board: Option<TensorBoardWriter>,
    trace: Option<Arc<Trace>>,
}

impl TrainingObserver for Leader<'_> {
    /// Everything has been checked: the files of an older run are replaced.
    fn started(&mut self) -> Result<(), TrainError> {
        let written = (|| -> Result<()> {
            let folder = &self.files.folder;
            if !self.args.resume {
                for old in [self.files.checkpoint(), self.files.best(), self.files.report()] {
                    if old.exists() {
                        std::fs::remove_file(&old).with_context(|| format!("cannot replace {}", old.display()))?;
                    }
                }
                std::fs::create_dir_all(folder)
                    .with_context(|| format!("cannot make the folder {}", folder.display()))?;
                std::fs::write(self.files.spec(), self.spec.to_toml()?)
                    .with_context(|| format!("cannot write {}", self.files.spec().display()))?;
            }
            self.report.write(&self.files.report())?;
            self.board = Some(TensorBoardWriter::new(&self.files.board(), 10));
            Ok(())
        })();
        written.map_err(|why| TrainError::Observer(format!("{why:#}")))
    }

    fn step(&mut self, epoch: usize, events: usize, of: usize, record: &StepRecord) {
        self.terminal.step(epoch, events, of, record);
        self.board.iter_mut().for_each(|board| board.step(epoch, events, of, record));
    }

    fn evaluation_progress(&mut self, what: &str, events: usize, of: usize) {
        self.terminal.evaluation_progress(what, events, of);
    }

    fn epoch(&mut self, report: &EpochReport, best: bool) {
        self.terminal.epoch(report, best);
        self.board.iter_mut().for_each(|board| board.epoch(report, best));
    }
}

impl<'a> Leader<'a> {
    /// Checks the folder and opens the timeline. Nothing in the folder is changed.
    fn prepare(
        args: &'a TrainArgs,
        files: &'a RunFiles,
        stop: &'a AtomicBool,
        spec: &'a RunSpec,
        training_data: &'a TrainingData,
    ) -> Result<Self> {
        check_folder(files, spec, args)?;
        let create = |path: &PathBuf| {
            Trace::create(path, 0).with_context(|| format!("cannot write the trace {}", path.display()))
        };
        Ok(Leader {
            args,
            files,
            stop,
            spec,
            training_data,
            report: blank_report(spec, training_data)?,
            terminal: Terminal::new(spec.train.epochs, args.json),
            board: None,
            trace: args.trace.as_ref().map(create).transpose()?.map(Arc::new),
        })
    }

    /// Says what is trained, on what.
    fn introduce(&mut self, parameters: usize, transport: Option<&str>) {
        self.report.parameters = parameters;
        self.report.transport = transport.map(String::from);
        self.say(&introduction(&self.report));
        if let Some(notice) = incomplete_pass_warning(self.spec) {
            eprintln!("{notice}");
        }
    }

    /// Tests the best model and writes the report. `false` if stopped.
    fn finish(&mut self, outcome: Outcome, learner: &mut Learner) -> Result<bool> {
        self.finish_trace()?;
        let (finished, summary) = match outcome {
            Outcome::Finished(summary) => (true, summary),
            Outcome::Stopped(summary) => (false, summary),
        };
        add_summary(&mut self.report, summary);
        let tested = finished && {
            let features = self.training_data.features.clone();
            let BestModel { weights, history, .. } = read_best_model(&self.files.best(), learner.needs(), features)?;
            learner.restore_weights(weights)?;
            self.test(learner, &history)?
        };
        self.terminal.done();
        self.report.status = if tested { Status::Finished } else { Status::Stopped };
        self.report.peak_memory_bytes = peak_memory_bytes();
        self.report.write(&self.files.report())?;
        if let (Some(board), Some(test)) = (&mut self.board, &self.report.test) {
            board.evaluation("test", test);
        }
        self.say(&if tested {
            conclusion(&self.report, &self.files.folder)
        } else {
            format!("stopped; go on with `tempograph train {} --resume`", self.command())
        });
        if self.args.json {
            println!("{}", serde_json::to_string_pretty(&self.report)?);
        }
        Ok(tested)
    }

    /// Closes the timeline, and says how much of the sampling ran beside the training.
    fn finish_trace(&mut self) -> Result<()> {
        if let (Some(trace), Some(path)) = (self.trace.take(), &self.args.trace) {
            let timeline = trace.finish().and_then(|()| Timeline::read(path));
            let (all, hidden) =
                timeline.with_context(|| format!("cannot write the trace {}", path.display()))?.hidden();
            self.terminal.done();
            // An empty sum is -0.
            let share = 100.0 * hidden.max(0.0) / all.max(f64::MIN_POSITIVE);
            self.say(&format!("{all:.1} s of sampling and reading memories, {share:.1} % beside the training"));
        }
        Ok(())
    }

    /// Evaluates the best model on the test split under every rule, and the baselines. `before` has observed all that precedes the split.
    /// `false` if stopped.
    fn test(&mut self, best: &mut dyn Scorer, before: &History) -> Result<bool> {
        let Leader { spec, training_data, .. } = *self;
        let range = training_data.range(Part::Test);
        for &rule in &spec.eval.rules {
            let negatives = training_data.negatives(Part::Test, rule, &spec.eval);
            let task = EvaluationTask {
                range: range.clone(),
                batch: spec.train.batch,
                negatives: &negatives,
                rank_every: 1,
                new_nodes: Some(&training_data.new_nodes),
            };
            let mut history = before.clone();
            let terminal = &mut self.terminal;
            let mut progress = |scores: &BatchScores<'_>| {
                terminal.evaluation_progress("test", scores.first.index() - range.start, range.len())
            };
            let log = &training_data.dataset.log;
            let Some(evaluation) = evaluate(best, &mut history, log, &task, self.stop, &mut progress)? else {
                return Ok(false);
            };
            self.report.test.get_or_insert_with(|| evaluation.clone());
            self.report.test_by_rule.insert(rule_name(rule), evaluation);
        }
        if spec.eval.floors {
            self.report.floors = evaluate_baselines(spec, training_data, self.stop)?;
        }
        Ok(true)
    }

    fn command(&self) -> String {
        let sets: String = self.args.sets.iter().map(|set| format!(" --set {set}")).collect();
        let out = self.args.out.as_ref().map_or_else(String::new, |out| format!(" --out {}", out.display()));
        format!("{}{sets}{out}", self.args.spec.display())
    }

    fn say(&self, what: &str) {
        if !self.args.json {
            print_line(what);
        }
    }
}

fn blank_report(spec: &RunSpec, training_data: &TrainingData) -> Result<Report> {
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
        parameters: 0,
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

fn add_summary(report: &mut Report, summary: TrainingSummary) {
    report.best_epoch = summary.best.map(|mark| mark.epoch);
    report.epochs = summary.epochs;
    report.steps = summary.steps;
    (report.weights_sha256, report.history_sha256) = (Some(summary.weights_sha256), Some(summary.history_sha256));
    report.seconds = summary.seconds;
    report.history_bytes = summary.history_bytes;
    report.processes = summary.processes;
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
        let task = EvaluationTask {
            range: test.clone(),
            batch: spec.train.batch,
            negatives: &negatives,
            rank_every: 1,
            new_nodes: None,
        };
        let warmed = warm_up(&mut model, &mut past, log, 0..test.start, spec.train.batch, stop)?;
        let found = if warmed { evaluate(&mut model, &mut past, log, &task, stop, &mut |_| ())? } else { None };
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
