//! Runs in a folder: whole ones, and ones that a test stops at a chosen moment and resumes.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tempograph_framework::Store;
use tempograph_trainers::{
    EpochReport, EvalSpec, Exchange, Launch, Learner, Outcome, ParallelSpec, PrefetchReport, Rendezvous, RunFiles,
    SingleProcess, StageTimes, StepRecord, TrainError, TrainSpec, TrainingData, TrainingObserver, TrainingRun,
    TrainingSummary, connect_tcp,
};

use crate::{Maker, eval_spec};

/// The inputs of a run in a folder.
pub struct Runner<'a> {
    /// The data.
    pub training_data: &'a TrainingData,
    /// Makes the model.
    pub maker: &'a Maker,
    /// How it is trained.
    pub train: &'a TrainSpec,
    /// How the work is shared.
    pub parallel: &'a ParallelSpec,
    /// Where it is kept.
    pub folder: &'a Path,
}

/// Loss and norm of the gradients of every step.
#[derive(Default)]
struct Losses(Vec<[f64; 2]>);

impl TrainingObserver for Losses {
    fn step(&mut self, _: usize, _: usize, _: usize, record: &StepRecord) {
        self.0.push([record.loss, record.gradient_norm]);
    }
}

/// Trains in one pass over the training split; loss and norm of every step.
pub fn pass(
    training_data: &TrainingData,
    learner: &mut Learner,
    train: &TrainSpec,
    parallel: &ParallelSpec,
) -> Vec<[f64; 2]> {
    let (stop, folder, eval) = (AtomicBool::new(false), tempfile::tempdir().unwrap(), EvalSpec::default());
    let files = RunFiles { folder: folder.path().into() };
    let run = TrainingRun {
        training_data,
        train,
        parallel,
        eval: &eval,
        seed: 5,
        files,
        resume: false,
        stop: &stop,
        trace: None,
    };
    let mut losses = Losses::default();
    run.train_once(learner, &mut losses).unwrap();
    losses.0
}

/// Asserts that a number of every step, its loss or gradient norm, is the same in two passes: to `tolerance` of it, or
/// of .1 if it is smaller.
#[track_caller]
pub fn assert_same_steps(
    name: &str,
    ours: impl Iterator<Item = f64>,
    expected: impl Iterator<Item = f64>,
    tolerance: f64,
) {
    let [ours, expected] = [ours.collect::<Vec<_>>(), expected.collect()];
    assert_eq!(ours.len(), expected.len(), "{name}");
    for (step, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        assert!((ours - expected).abs() <= tolerance * expected.max(0.1), "{name}, step {step}: {ours} for {expected}");
    }
}

impl Runner<'_> {
    /// Starts or resumes the run, and has `stopper` stop it.
    pub fn run(&self, resume: bool, stopper: &mut Stopper) -> Outcome {
        self.run_among(&mut SingleProcess, resume, stopper).unwrap()
    }

    /// As [`run`](Runner::run), as one of several processes.
    ///
    /// # Errors
    /// As the run.
    pub fn run_among(
        &self,
        exchange: &mut dyn Exchange,
        resume: bool,
        stopper: &mut Stopper,
    ) -> Result<Outcome, TrainError> {
        let stop = stopper.flag.clone();
        let files = RunFiles { folder: self.folder.to_path_buf() };
        let run = TrainingRun {
            training_data: self.training_data,
            train: self.train,
            parallel: self.parallel,
            eval: &eval_spec(),
            seed: 3,
            files,
            resume,
            stop: &stop,
            trace: None,
        };
        run.train(exchange, &mut (self.maker)(&self.training_data.dataset), stopper)
    }

    /// Runs to the end, from the start or from where it was stopped.
    pub fn to_the_end(&self, resume: bool) -> TrainingSummary {
        match self.run(resume, &mut Stopper::never()) {
            Outcome::Finished(fitted) => fitted,
            Outcome::Stopped(_) => unreachable!("nobody stopped it"),
        }
    }

    /// Runs from the start to the end.
    pub fn whole(&self) -> RunResult {
        self.result(self.to_the_end(false))
    }

    /// Resumes to the end from where it was stopped.
    pub fn resumed(&self) -> RunResult {
        self.result(self.to_the_end(true))
    }

    /// The files that the run has left.
    pub fn result(&self, fitted: TrainingSummary) -> RunResult {
        let files = RunFiles { folder: self.folder.to_path_buf() };
        let arrays = |path: &Path| Store::read(path).unwrap().split_off("");
        RunResult {
            epochs: fitted.epochs.into_iter().map(timeless).collect(),
            checkpoint: arrays(&files.checkpoint()),
            best: arrays(&files.best()),
        }
    }
}

/// Everything of a run that does not depend on the clock.
#[derive(Clone, Debug, PartialEq)]
pub struct RunResult {
    /// Losses and metrics.
    pub epochs: Vec<EpochReport>,
    /// Weights, moments and history.
    pub checkpoint: Store,
    /// Weights and history of the best epoch.
    pub best: Store,
}

/// An epoch's report without its times.
fn timeless(mut report: EpochReport) -> EpochReport {
    (report.train.seconds, report.train.events_per_second, report.val.seconds) = (0.0, 0.0, 0.0);
    report.train.stages = StageTimes::default();
    report.train.prefetch = PrefetchReport::default();
    report
}

/// Calls `work` with a run in a folder of its own.
pub fn in_new_folder<R>(
    training_data: &TrainingData,
    maker: &Maker,
    train: &TrainSpec,
    parallel: &ParallelSpec,
    work: impl FnOnce(&Runner<'_>) -> R,
) -> R {
    let folder = tempfile::tempdir().unwrap();
    work(&Runner { training_data, maker, train, parallel, folder: folder.path() })
}

/// The result of a run that is not stopped.
pub fn whole(training_data: &TrainingData, maker: &Maker, train: &TrainSpec, parallel: &ParallelSpec) -> RunResult {
    in_new_folder(training_data, maker, train, parallel, |runner| runner.whole())
}

/// The result if it is stopped at `moment` and resumed.
#[track_caller]
pub fn stopped_and_resumed(
    training_data: &TrainingData,
    maker: &Maker,
    train: &TrainSpec,
    parallel: &ParallelSpec,
    moment: usize,
) -> RunResult {
    in_new_folder(training_data, maker, train, parallel, |runner| {
        let mut stopper = Stopper::at(moment);
        let stopped = matches!(runner.run(false, &mut stopper), Outcome::Stopped(_));
        // The very last moment is too late to stop anything.
        assert!(
            stopped || stopper.seen.len() == moment + 1,
            "not stopped at moment {moment} of {}",
            stopper.seen.len()
        );
        runner.resumed()
    })
}

/// Asserts that two runs have the same result, to the bit.
#[track_caller]
pub fn assert_same(what: &str, found: &RunResult, expected: &RunResult) {
    assert_eq!(found.epochs, expected.epochs, "{what}: losses and metrics");
    assert!(found.checkpoint == expected.checkpoint, "{what}: weights, moments or histories of the checkpoint");
    assert!(found.best == expected.best, "{what}: weights or history of the best epoch");
}

/// Raises the flag that stops a run, at a moment of its choice.
#[derive(Debug, Default)]
pub struct Stopper {
    /// The flag.
    pub flag: Arc<AtomicBool>,
    /// What was observed so far, in order: a training step or an evaluated batch.
    pub seen: Vec<Moment>,
    /// The moment, by its number.
    at: Option<usize>,
    /// Whether a training step stops the run.
    at_every_step: bool,
    /// The step that the process dies in.
    crash: Option<usize>,
}

/// A moment at which a run can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A training step was taken; whether it was the epoch's last.
    Step(bool),
    /// A batch was evaluated.
    Evaluated,
}

impl Stopper {
    /// Lets the run go on.
    pub fn never() -> Stopper {
        Stopper::default()
    }

    /// Stops at the `moment`-th step or evaluated batch, counted from 0.
    pub fn at(moment: usize) -> Stopper {
        Stopper { at: Some(moment), ..Stopper::default() }
    }

    /// Stops at the next training step.
    pub fn at_next_step() -> Stopper {
        Stopper { at_every_step: true, ..Stopper::default() }
    }

    /// Unwinds out of the `step`-th training step, counted from 0, as if the process died there.
    pub fn crash(step: usize) -> Stopper {
        Stopper { crash: Some(step), ..Stopper::default() }
    }

    fn see(&mut self, moment: Moment) {
        let step = matches!(moment, Moment::Step(_));
        if self.at == Some(self.seen.len()) || self.at_every_step && step {
            self.flag.store(true, Ordering::SeqCst);
        }
        if step && self.crash == Some(self.seen.len()) {
            std::panic::resume_unwind(Box::new("the process dies"));
        }
        self.seen.push(moment);
    }
}

impl TrainingObserver for Stopper {
    fn step(&mut self, _: usize, events: usize, of: usize, _: &StepRecord) {
        self.see(Moment::Step(events == of));
    }
    fn evaluation_progress(&mut self, _: &str, _: usize, _: usize) {
        self.see(Moment::Evaluated);
    }
}

/// Runs `work` in each of `world` processes, which are threads here, with its rank and its exchange.
pub fn processes<T: Send>(world: usize, work: impl Fn(usize, Box<dyn Exchange>) -> T + Sync) -> Vec<T> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    thread::scope(|scope| {
        let run = |rank| {
            let work = &work;
            scope.spawn(move || {
                let rendezvous = Rendezvous::Address { host: "127.0.0.1".into(), port };
                let launch = Launch { rank, world, local_rank: rank, local_world: world, rendezvous };
                work(rank, connect_tcp(&launch, "a run", Duration::from_secs(20)).unwrap())
            })
        };
        let running: Vec<_> = (0..world).map(run).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}
