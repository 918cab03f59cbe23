//! A run: the loop over epochs, its observers, its checkpoints and its report.
pub(crate) mod board;
pub(crate) mod checkpoint;
pub(crate) mod event_file;
pub(crate) mod on_device;
pub(crate) mod report;
pub(crate) mod session;

use std::sync::atomic::Ordering;

use tempograph_framework::{History, Scorer, Store, StoreError};

use crate::run::checkpoint::BestEpoch;
use crate::run::session::TrainingSession;
use crate::setup::TrainingRun;
use crate::step::adam::StepSettings;
use crate::step::learner::Learner;
use crate::step::record::StepRecord;
use crate::transport::exchange::{Exchange, SingleProcess};
use crate::{EpochReport, ProcessReport, TrainError};

/// Sees the progress of a run.
pub trait TrainingObserver {
    /// The run begins at `from`: data and plan fit, and a checkpoint to resume from has been read.
    ///
    /// # Errors
    /// What the observer cannot write; the run ends before its first step.
    fn started(&mut self, _from: &StartPoint<'_>) -> Result<(), TrainError> {
        Ok(())
    }
    /// The next epochs begin, up to the next evaluation.
    ///
    /// # Errors
    /// Data that changed since it was opened; the run ends with its last checkpoint.
    fn epoch_begins(&mut self) -> Result<(), TrainError> {
        Ok(())
    }
    /// A training step was taken. `events` of `of` events before the next evaluation are trained; that comes after epoch `epoch`.
    fn step(&mut self, _epoch: usize, _events: usize, _of: usize, _record: &StepRecord) {}
    /// The evaluation of a split goes on: `events` of `of` are done.
    fn evaluation_progress(&mut self, _what: &str, _events: usize, _of: usize) {}
    /// The model was evaluated after an epoch.
    fn epoch(&mut self, _report: &EpochReport, _best: bool) {}
}

/// Where there is no observer, nothing is observed.
impl<O: TrainingObserver> TrainingObserver for Option<O> {
    fn started(&mut self, from: &StartPoint<'_>) -> Result<(), TrainError> {
        self.as_mut().map_or(Ok(()), |observer| observer.started(from))
    }

    fn epoch_begins(&mut self) -> Result<(), TrainError> {
        self.as_mut().map_or(Ok(()), O::epoch_begins)
    }

    fn step(&mut self, epoch: usize, events: usize, of: usize, record: &StepRecord) {
        self.iter_mut().for_each(|observer| observer.step(epoch, events, of, record));
    }

    fn evaluation_progress(&mut self, what: &str, events: usize, of: usize) {
        self.iter_mut().for_each(|observer| observer.evaluation_progress(what, events, of));
    }

    fn epoch(&mut self, report: &EpochReport, best: bool) {
        self.iter_mut().for_each(|observer| observer.epoch(report, best));
    }
}

/// Where a session of a run begins.
#[derive(Clone, Copy, Debug)]
pub struct StartPoint<'a> {
    /// Whether there was a checkpoint to go on from.
    pub resumed: bool,
    /// Steps taken before.
    pub steps: u64,
    /// The evaluations before.
    pub epochs: &'a [EpochReport],
    /// The epoch whose weights are kept so far.
    pub best: Option<BestEpoch>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All epochs are done; the best weights and their history are in `best.safetensors`.
    Finished(TrainingSummary),
    /// It was stopped; the checkpoint holds its state.
    Stopped(TrainingSummary),
}

/// What a run measured.
#[derive(Debug)]
pub struct TrainingSummary {
    /// One for each evaluation.
    pub epochs: Vec<EpochReport>,
    /// The epoch whose weights are kept.
    pub best: Option<BestEpoch>,
    /// Steps taken.
    pub steps: u64,
    /// Wall-clock time of all sessions so far.
    pub seconds: f64,
    /// Bytes of the histories of this process.
    pub history_bytes: u64,
    /// What each process keeps in memory.
    pub processes: Vec<ProcessReport>,
    /// SHA-256 of the weights after the last step.
    pub weights_sha256: String,
    /// SHA-256 of all histories of the plan after the last step.
    pub history_sha256: String,
}

impl TrainingRun<'_> {
    /// Trains `learner`, fresh from its seed, to the end of its epochs or until stopped. Of several processes, each runs this with its own
    /// `exchange` and hosts its share of the plan's lanes; the first of them evaluates the model and writes the files.
    ///
    /// # Errors
    /// A training that diverged, a plan that does not fit the data, a file that cannot be written or read, an event that cannot be applied, or
    /// another process that is gone.
    pub fn train(
        &self,
        exchange: &mut dyn Exchange,
        learner: &mut Learner,
        observer: &mut dyn TrainingObserver,
    ) -> Result<Outcome, TrainError> {
        let mut train = || -> Result<Outcome, TrainError> {
            let mut session = TrainingSession::start(self, exchange, learner, observer)?;
            session.begin()?;
            while !session.is_finished() {
                session.observer.epoch_begins()?;
                match session.train_and_validate() {
                    Ok(true) => {}
                    Ok(false) => return Ok(Outcome::Stopped(session.summary()?)),
                    Err(error) => return Err(session.explain(error)),
                }
            }
            Ok(Outcome::Finished(session.summary()?))
        };
        train().map_err(|error| error.resumable(self.files.checkpoint().exists()))
    }

    /// Trains one pass over the training split and nothing else: no validation, no files. For measuring.
    ///
    /// # Errors
    /// As [`train`](TrainingRun::train).
    pub fn train_once(&self, learner: &mut Learner, observer: &mut dyn TrainingObserver) -> Result<(), TrainError> {
        let history = self.training_data.history(learner.needs());
        self.train_after(learner, history, observer)
    }

    /// As [`train_once`](TrainingRun::train_once), but the plan's first history is `history`, which has seen everything before the training split.
    ///
    /// # Errors
    /// As [`train`](TrainingRun::train).
    pub fn train_after(
        &self,
        learner: &mut Learner,
        history: History,
        observer: &mut dyn TrainingObserver,
    ) -> Result<(), TrainError> {
        let mut alone = SingleProcess;
        let mut session = TrainingSession::start(self, &mut alone, learner, observer)?;
        session.lanes.set_history(history);
        let trained = session.train_to_epoch(1);
        trained.map(drop).map_err(|error| session.explain(error))
    }

    /// Whether `learner` can train with its history on a device. A history there has no second copy of what a tick has
    /// changed: it stays on the host where a batch, or the end of the training split, separates events of one time.
    pub fn can_reside(&self, learner: &Learner) -> bool {
        learner.has_resident() && (!learner.needs().is_strict() || !self.cuts_ticks())
    }

    fn cuts_ticks(&self) -> bool {
        let (time, split) = (self.training_data.dataset.log.time(), &self.training_data.split.train);
        let mut ends = split.clone().step_by(self.train.batch).skip(1).chain([split.end]);
        ends.any(|end| end > 0 && end < time.len() && time[end] == time[end - 1])
    }

    /// Whether a stop was requested.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The optimiser's settings of step `step` of `all`.
    pub(crate) fn step_settings(&self, step: u64, all: u64) -> StepSettings {
        let TrainingRun { train, parallel, .. } = self;
        StepSettings {
            lr: parallel.lr_factor() * train.lr_at(step, all),
            beta_power: parallel.beta_power(),
            weight_decay: train.weight_decay,
            clip: train.clip,
        }
    }

    /// The checkpoint to resume from, if there is one: the first process reads it and sends it to all.
    pub(crate) fn checkpoint(&self, exchange: &mut dyn Exchange) -> Result<Option<Store>, TrainError> {
        let path = self.files.checkpoint();
        let own =
            if self.resume && exchange.rank() == 0 && path.exists() { Some(Store::read_sealed(&path)?) } else { None };
        if !self.resume || exchange.world() == 1 {
            return Ok(own);
        }
        let bytes = own.map(|store| store.to_bytes()).transpose();
        let bytes = bytes.map_err(|source| StoreError::Format { path: path.clone(), source })?.unwrap_or_default();
        let bytes = exchange.all_gather(0..exchange.world(), &bytes)?.swap_remove(0);
        Ok(if bytes.is_empty() { None } else { Some(Store::from_bytes(&bytes, &path)?) })
    }
}
