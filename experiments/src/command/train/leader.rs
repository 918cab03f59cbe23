//! The first process of a training: it prints, tests and writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};
use tempograph_framework::{History, Scorer, write_atomic};
use tempograph_trainers::{
    BatchScores, BestModel, EpochReport, EvaluationTask, Learner, Outcome, Part, REPORT_SCHEMA, Report, RunFiles,
    SelectBy, StartPoint, Status, StepRecord, TensorBoardWriter, Timeline, Trace, TrainError, TrainingData,
    TrainingObserver, TrainingSummary, evaluate, peak_memory_bytes, read_best_model,
};

use crate::command::train::TrainArgs;
use crate::command::train::resume::check_folder;
use crate::setup::baselines::evaluate_baselines;
use crate::setup::data;
use crate::setup::data::{ColumnsWatch, Questions, asks_tgb, questions};
use crate::setup::device;
use crate::setup::folder::{FolderLock, Replaced, names_of, own_files};
use crate::setup::spec::{Difference, RunSpec};
use crate::terminal::own_file::TRACE;
use crate::terminal::print::{note, print, quoted};
use crate::terminal::progress::Terminal;
use crate::terminal::tables::{TgbResult, conclusion, introduction};

/// What the first process does besides training: it prints, tests and writes.
pub(super) struct Leader<'a> {
    args: &'a TrainArgs,
    files: &'a RunFiles,
    stop: &'a AtomicBool,
    spec: &'a RunSpec,
    training_data: &'a TrainingData,
    report: Report,
    terminal: Terminal,
    /// Opened when the run starts.
    board: Option<TensorBoardWriter>,
    pub trace: Option<Arc<Trace>>,
    /// A trace's file that was not there before.
    made_trace: Option<&'a Path>,
    /// What differs from the run that is resumed.
    differences: Vec<Difference>,
    columns: Option<ColumnsWatch>,
    /// The run before, until the first epoch is complete.
    replaced: Option<Replaced>,
    /// Held from before the first look into the folder, or from when the folder is made.
    pub lock: Option<FolderLock>,
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
    pub fn prepare(
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
            TRACE.check(path)?;
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
                names_of(&own),
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
    pub fn fail(&mut self, why: anyhow::Error) -> anyhow::Error {
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
    pub fn introduce(&mut self, parameters: usize, transport: Option<&str>) {
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
    pub fn finish(&mut self, outcome: Outcome, learner: &mut Learner) -> Result<bool> {
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
            let tgb = if asks_tgb(self.spec) {
                Some(TgbResult::of_run(&self.report, self.spec.needs()?.lookup))
            } else {
                None
            };
            conclusion(&self.report, tgb.as_ref(), &self.files.folder)
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

/// A warning where training ends inside a pass of the plan's histories.
fn incomplete_pass_warning(spec: &RunSpec) -> Option<String> {
    let (plan, epochs) = (spec.parallel.plan(), spec.train.epochs);
    let passes = plan.passes();
    (!epochs.is_multiple_of(passes)).then(|| {
        format!(
            "train.epochs = {epochs}: the plan {plan} passes the training split once in {passes} epochs, so training ends inside a pass; the last \
             evaluation replays the split with the final weights, and scores lower for that. Choose a multiple of {passes}"
        )
    })
}
