//! `tempograph train`: from a spec to a report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use tempograph_framework::{History, LinkMetrics, Scorer, TensorScorer, write_atomic};
use tempograph_kernels::tensor::Cpu;
use tempograph_models::Heuristic;
use tempograph_trainers::{
    Baseline, BatchScores, BestModel, EpochReport, Evaluation, EvaluationTask, Learner, Outcome, Part, REPORT_SCHEMA,
    Report, RunFiles, Schedule, SelectBy, StartPoint, Status, StepRecord, TensorBoardWriter, Timeline, Trace,
    TrainError, TrainingData, TrainingObserver, TrainingRun, TrainingSummary, evaluate, peak_memory_bytes,
    read_best_model, warm_up,
};

use crate::command::export;
use crate::command::export::Until;
use crate::setup::data;
use crate::setup::data::{ColumnsWatch, Questions, questions};
use crate::setup::device;
use crate::setup::folder::{FolderLock, Replaced, holds_run, own_files, told};
use crate::setup::model::build_learner;
use crate::setup::ranks::{ProcessRank, Transport};
use crate::setup::runs::Run;
use crate::setup::spec::{Difference, RunSpec, differences};
use crate::terminal::interrupt::{Interrupted, stop_on_signal};
use crate::terminal::print::{note, print, quoted};
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

/// Refuses a folder that the run may not write to: `--resume` without the same run there, a run there without `--force`. Gives what differs
/// from the run that is resumed.
fn check_folder(files: &RunFiles, spec: &RunSpec, args: &TrainArgs) -> Result<Vec<Difference>> {
    let folder = &files.folder;
    if args.resume && !files.spec().exists() {
        bail!("{} holds no run to resume; leave --resume out to start", folder.display());
    }
    if args.resume {
        let before =
            std::fs::read_to_string(files.spec()).with_context(|| format!("cannot read {}", files.spec().display()))?;
        let found = differences(&before, &spec.to_toml()?)
            .with_context(|| format!("cannot read {}", files.spec().display()))?;
        check_resumable(&found, spec, files)?;
        return Ok(found);
    }
    if holds_run(files) && !args.force {
        let hint = "--resume goes on with it, --force replaces it, --out DIR puts the new one elsewhere";
        bail!("{} holds a run already: {hint}", folder.display());
    }
    Ok(Vec::new())
}

/// Refuses to go on with a run otherwise than longer, on other threads or on another device.
fn check_resumable(found: &[Difference], spec: &RunSpec, files: &RunFiles) -> Result<()> {
    let free = ["threads", "parallel.threads", "device", "train.epochs"];
    let refused: Vec<String> =
        found.iter().filter(|one| !free.contains(&one.key.as_str())).map(Difference::to_string).collect();
    if !refused.is_empty() {
        bail!(
            "the spec differs from that of the run in {} ({}): {}; a run is resumed with its own settings, but for train.epochs (more), \
             threads, parallel.threads and device",
            files.folder.display(),
            files.spec().display(),
            refused.join(", ")
        );
    }
    let Some(longer) = found.iter().find(|one| one.key == "train.epochs") else { return Ok(()) };
    if longer.was.parse::<usize>().is_ok_and(|was| spec.train.epochs < was) {
        bail!("{longer}: a run may train longer than it was to, and no shorter");
    }
    if spec.train.schedule != Schedule::Constant {
        let schedule = serde_json::to_value(spec.train.schedule)?;
        bail!(
            "{longer}, and train.schedule = {schedule} divides the learning rate over all epochs: the longer run has other rates from its first \
             step on, and is another run. Start it anew with --out DIR, or resume with train.epochs = {}",
            longer.was
        );
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
    /// A trace's file that was not there before.
    made_trace: Option<&'a Path>,
    /// What differs from the run that is resumed.
    differences: Vec<Difference>,
    columns: Option<ColumnsWatch>,
    /// The run before, until the first epoch is complete.
    replaced: Option<Replaced>,
    /// Held from before the first look into the folder, or from when the folder is made.
    lock: Option<FolderLock>,
    started: bool,
}

impl TrainingObserver for Leader<'_> {
    fn started(&mut self, from: &StartPoint<'_>) -> Result<(), TrainError> {
        self.begin(from).map_err(|why| TrainError::Observer(format!("{why:#}")))
    }

    fn epoch_begins(&mut self) -> Result<(), TrainError> {
        let checked = self.columns.as_ref().map_or(Ok(()), ColumnsWatch::check);
        checked.map_err(|why| TrainError::Observer(format!("{why:#}")))
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
        if let Some(Err(error)) = self.board.as_mut().map(TensorBoardWriter::take_error) {
            let folder = self.files.board();
            note(format!("{} cannot be written: {error}; the run goes on without it", folder.display()));
        }
        self.report.epochs.push(report.clone());
        self.report.steps = report.steps;
        if best {
            self.report.best_epoch = Some(report.epoch);
        }
        if let Some(replaced) = self.replaced.take() {
            replaced.discard();
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        // A run that was refused leaves nothing.
        if let (false, Some(path)) = (self.started, self.made_trace) {
            let _ = std::fs::remove_file(path);
        }
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
        let lock = if files.folder.exists() { Some(FolderLock::take(files)?) } else { None };
        let differences = check_folder(files, spec, args)?;
        let mut made_trace = None;
        let mut create = |path: &'a PathBuf| {
            let there = path.exists();
            let trace = Trace::create(path, 0).with_context(|| format!("cannot write the trace {}", path.display()))?;
            made_trace = Some(path.as_path()).filter(|_| !there);
            anyhow::Ok(Arc::new(trace))
        };
        let trace = args.trace.as_ref().map(&mut create).transpose()?;
        check_ranked(spec, training_data)?;
        Ok(Leader {
            args,
            files,
            stop,
            spec,
            training_data,
            report: blank_report(spec, training_data)?,
            terminal: Terminal::new(spec.train.epochs, args.json),
            board: None,
            trace,
            made_trace,
            differences,
            columns: ColumnsWatch::of(&spec.data)?,
            replaced: None,
            lock,
            started: false,
        })
    }

    /// Everything has been checked: the files of an older run step aside, and those of this one are begun.
    fn begin(&mut self, from: &StartPoint<'_>) -> Result<()> {
        let (files, folder) = (self.files, &self.files.folder);
        if self.args.resume {
            self.check_best(from)?;
        }
        if self.lock.is_none() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
            self.lock = Some(FolderLock::take(files)?);
            // Another process may have been there in the meantime.
            check_folder(files, self.spec, self.args)?;
        }
        let own = own_files(files);
        if self.args.force && !own.is_empty() {
            note(format!(
                "--force replaces the run in {}: {} go when the first epoch is complete, and are in {} until then",
                folder.display(),
                told(&own),
                files.replaced().display()
            ));
        }
        self.started = true;
        self.replaced = if self.args.resume { Replaced::of_resumed(files) } else { Replaced::set_aside(files)? };
        self.report.epochs = from.epochs.to_vec();
        self.report.steps = from.steps;
        self.report.best_epoch = from.best.map(|mark| mark.epoch);
        if !self.args.resume || !self.differences.is_empty() {
            write_atomic(&files.spec(), self.spec.to_toml()?.as_bytes())
                .with_context(|| format!("cannot write {}", files.spec().display()))?;
        }
        self.write_report()?;
        let board = TensorBoardWriter::new(&files.board(), 10);
        self.board = Some(board.with_context(|| format!("cannot write {}", files.board().display()))?);
        let cannot = || format!("cannot write the trace of {}", folder.display());
        self.trace.as_ref().map_or(Ok(()), |trace| trace.begin()).with_context(cannot)?;
        if self.args.resume && !from.resumed {
            let path = files.checkpoint();
            note(format!("{} is not there: the run starts from the beginning", path.display()));
        }
        Ok(())
    }

    /// Checks that what is kept of the run that is resumed is what its checkpoint says.
    fn check_best(&self, from: &StartPoint<'_>) -> Result<()> {
        let Some(expected) = from.best else { return Ok(()) };
        let path = self.files.best();
        let best = read_best_model(&path, self.spec.needs()?, self.training_data.features.clone())?;
        // A run may be killed between the two files.
        if best.mark != expected && best.mark.epoch <= expected.epoch {
            bail!(
                "{} is of epoch {} with the score {}, and the checkpoint of a run whose best epoch is {} with {}; restore the file, or start anew",
                path.display(),
                best.mark.epoch,
                best.mark.score,
                expected.epoch,
                expected.score
            );
        }
        Ok(())
    }

    fn write_report(&self) -> Result<()> {
        let path = self.files.report();
        self.report.write(&path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes down why the run failed, or puts back the run that it was to replace. Gives the error with what became of the folder.
    fn fail(&mut self, why: anyhow::Error) -> anyhow::Error {
        self.terminal.done();
        if !self.started {
            return why;
        }
        let folder = self.files.folder.display();
        if let Some(replaced) = self.replaced.take_if(|replaced| replaced.comes_back()) {
            self.board = None;
            drop(replaced);
            return anyhow!("{why:#}; the run that was in {folder} before is there again");
        }
        let diverged = why.chain().any(|cause| matches!(cause.downcast_ref(), Some(TrainError::Diverged { .. })));
        self.report.status = if diverged { Status::Diverged } else { Status::Failed };
        self.report.error = Some(format!("{why:#}"));
        self.report.peak_memory_bytes = peak_memory_bytes();
        if let Err(error) = self.write_report() {
            note(format!("{error:#}"));
        }
        if diverged && self.files.checkpoint().exists() {
            return anyhow!("{why:#}; the checkpoint and the best model from before are kept in {folder}");
        }
        why
    }

    /// Says what is trained, on what.
    fn introduce(&mut self, parameters: usize, transport: Option<&str>) {
        self.report.parameters = parameters;
        self.report.transport = transport.map(String::from);
        self.say(&introduction(&self.report));
        if let Some(notice) = incomplete_pass_warning(self.spec) {
            note(notice);
        }
        for found in &self.differences {
            match found.key.as_str() {
                "device" => note(format!(
                    "{found}: devices round differently, so the run goes on close to what it was, not to the bit"
                )),
                _ => note(format!("goes on with another setting: {found}")),
            }
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
            let BestModel { weights, history, mark, .. } =
                read_best_model(&self.files.best(), learner.needs(), features)?;
            if self.report.best_epoch != Some(mark.epoch) {
                bail!("{} is not of this run: it is of epoch {}", self.files.best().display(), mark.epoch);
            }
            learner.restore_weights(weights)?;
            self.test(learner, &history)?
        };
        self.terminal.done();
        self.report.status = if tested { Status::Finished } else { Status::Stopped };
        self.report.peak_memory_bytes = peak_memory_bytes();
        self.write_report()?;
        if !tested && let Some(replaced) = &mut self.replaced {
            replaced.keep_aside();
            note(format!("the run before is in {} until the first epoch is complete", self.files.replaced().display()));
        }
        if let (Some(board), Some(test)) = (&mut self.board, &self.report.test) {
            board.evaluation("test", test);
        }
        self.say(&if tested {
            conclusion(&self.report, &self.files.folder)
        } else {
            format!("stopped; go on with `tempograph train {} --resume`", self.command())
        });
        if self.args.json {
            print(serde_json::to_string_pretty(&self.report)?)?;
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
        for Questions { name, negatives } in questions(spec, training_data, Part::Test) {
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
            self.report.test_by_rule.insert(name, evaluation);
        }
        if spec.eval.floors {
            self.report.floors = evaluate_baselines(spec, training_data, self.stop)?;
        }
        Ok(!self.stop.load(Ordering::Relaxed))
    }

    /// The command as a shell takes it.
    fn command(&self) -> String {
        let sets: String = self.args.sets.iter().map(|set| format!(" --set {}", quoted(set))).collect();
        let out = self.args.out.as_ref();
        let out = out.map_or_else(String::new, |out| format!(" --out {}", quoted(&out.display().to_string())));
        format!("{}{sets}{out}", quoted(&self.args.spec.display().to_string()))
    }

    fn say(&self, what: &str) {
        if !self.args.json {
            // A run goes on when nobody reads it.
            let _ = print(what);
        }
    }
}

fn blank_report(spec: &RunSpec, training_data: &TrainingData) -> Result<Report> {
    Ok(Report {
        schema: REPORT_SCHEMA,
        name: spec.name.clone(),
        status: Status::Running,
        error: None,
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
    let mut floors = Vec::new();
    for Questions { name, negatives } in questions(spec, training_data, Part::Test) {
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
                floors.push(Baseline { name: rule.name(), negatives: name.clone(), history, test: all });
            }
        }
    }
    Ok(floors)
}

/// Refuses a validation that ranks a single event: no epoch is the best by it.
fn check_ranked(spec: &RunSpec, training_data: &TrainingData) -> Result<()> {
    let (every, events) = (spec.eval.val_every, training_data.split.val.len());
    if spec.train.select_by == SelectBy::Mrr && events.div_ceil(every) < 2 {
        bail!(
            "eval.val_every = {every} ranks one of {events} validation events, and no epoch is the best by the rank of one; choose less, or \
             train.select_by = \"ap\""
        );
    }
    Ok(())
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

/// The table of an evaluation: the model's rows, those of the baselines, and what the negatives are.
pub(crate) fn metric_table(model: &str, by_rule: &[(&str, &Evaluation)], floors: &[Baseline]) -> Vec<String> {
    let mut lines = vec![metric_title()];
    for (rule, evaluation) in by_rule {
        lines.push(metric_row(&format!("{model} ({rule})"), &evaluation.all));
        lines.extend(
            evaluation.new_nodes.iter().map(|new| metric_row(&format!("  {} new-node events", new.count), new)),
        );
        let own = floors.iter().filter(|floor| floor.negatives == **rule);
        lines.extend(own.map(|floor| metric_row(&format!("{} ({rule})", floor.name), &floor.test)));
        lines.extend(negative_notes(rule, evaluation));
    }
    lines
}

/// What a reader has to know of the negatives: true ones, others than the rule's, few.
pub(crate) fn negative_notes(rule: &str, evaluation: &Evaluation) -> Vec<String> {
    let facts = &evaluation.negatives;
    let mut notes = Vec::new();
    if facts.of_rule < 1.0 {
        let other = 100.0 * (1.0 - facts.of_rule);
        let of_rule = 100.0 * facts.of_rule;
        notes.push(format!(
            "  of the negatives {of_rule:.1} % are {rule}, {other:.1} % random, where there were too few"
        ));
    }
    if facts.true_at_time > 0.0 {
        let share = 100.0 * facts.true_at_time;
        notes.push(format!("  of the negatives ({rule}) {share:.1} % are true: they happen at the time of the event"));
    }
    if facts.fewest_distinct < 10 {
        notes.push(format!(
            "  MRR ({rule}) is among few: an event has {:.1} different negatives on average, and one has {}",
            facts.distinct, facts.fewest_distinct
        ));
    }
    notes.extend(evaluation.undefined.iter().map(|(metric, why)| format!("  no {metric} ({rule}): {why}")));
    notes
}

pub(crate) fn metric_title() -> String {
    format!("{:<28} {:>7} {:>7} {:>7} {:>8}", "test", "AP", "AUC", "MRR", "Hits@10")
}

pub(crate) fn metric_row(name: &str, metrics: &LinkMetrics) -> String {
    let [ap, auc, hits10] = [metrics.ap, metrics.auc, metrics.hits10].map(metric);
    format!("{name:<28} {ap:>7} {auc:>7} {:>7.4} {hits10:>8}", metrics.mrr)
}

/// Four decimals, or a dash for what means nothing.
pub(crate) fn metric(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.4}"))
}

fn conclusion(report: &Report, folder: &Path) -> String {
    let by_rule: Vec<(&str, &Evaluation)> =
        report.test_by_rule.iter().map(|(rule, evaluation)| (rule.as_str(), evaluation)).collect();
    let mut lines = metric_table(&report.name, &by_rule, &report.floors);
    lines.push(format!(
        "best epoch {}, {:.0} s, {} MB; report in {}",
        report.best_epoch.unwrap_or(0),
        report.seconds,
        report.peak_memory_bytes >> 20,
        folder.join("report.json").display()
    ));
    lines.join("\n")
}
