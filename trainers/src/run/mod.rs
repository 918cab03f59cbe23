//! A run: what it is made of, what it tells while it goes on, and what it ends with.
pub(crate) mod board;
pub(crate) mod checkpoint;
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

/// Is told what happens while a run goes on.
pub trait TrainingObserver {
    /// A training step was taken; `events` of `of` are done of what is trained until the next examination, which comes after epoch `epoch`.
    fn step(&mut self, _epoch: usize, _events: usize, _of: usize, _record: &StepRecord) {}
    /// Examination of a split goes on; `events` of `of` are done.
    fn evaluation_progress(&mut self, _what: &str, _events: usize, _of: usize) {}
    /// The model was examined after an epoch.
    fn epoch(&mut self, _report: &EpochReport, _best: bool) {}
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All epochs are done; the best weights and their history are in `best.safetensors`.
    Finished(TrainingSummary),
    /// It was asked to stop; the checkpoint holds its state.
    Stopped(TrainingSummary),
}

/// What fitting measured.
#[derive(Debug)]
pub struct TrainingSummary {
    /// One for each examination.
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
    /// Trains `learner`, fresh from its seed, to the end of its epochs or until stopped.
    ///
    /// # Errors
    /// A loss that is not finite, a plan the data does not fit, a file that cannot be written or read, an event that cannot happen.
    pub fn run(&self, learner: &mut Learner, watch: &mut dyn TrainingObserver) -> Result<Outcome, TrainError> {
        self.run_distributed(&mut SingleProcess, learner, watch)
    }

    /// As [`run`](TrainingRun::run), together with other processes that run the same: each hosts its share of the plan's lanes. The first of
    /// them examines the model and writes the files.
    ///
    /// # Errors
    /// As [`run`](TrainingRun::run), and if another process is gone.
    pub fn run_distributed(
        &self,
        exchange: &mut dyn Exchange,
        learner: &mut Learner,
        watch: &mut dyn TrainingObserver,
    ) -> Result<Outcome, TrainError> {
        self.run_session(exchange, learner, watch).map_err(|error| match error {
            TrainError::Exchange(error) if self.files.checkpoint().exists() => TrainError::Resumable(error),
            other => other,
        })
    }

    fn run_session(
        &self,
        exchange: &mut dyn Exchange,
        learner: &mut Learner,
        watch: &mut dyn TrainingObserver,
    ) -> Result<Outcome, TrainError> {
        let mut session = TrainingSession::start(self, exchange, learner, watch)?;
        while !session.is_finished() {
            let evaluation =
                if session.train_to_epoch(session.next_evaluation_epoch())? { session.validate()? } else { None };
            let Some(evaluation) = evaluation else {
                session.save()?;
                return Ok(Outcome::Stopped(session.summary()?));
            };
            session.close_epoch(evaluation)?;
        }
        Ok(Outcome::Finished(session.summary()?))
    }

    /// Trains one pass over the training split and nothing else: no validation, no files. For measuring.
    ///
    /// # Errors
    /// As [`run`](TrainingRun::run).
    pub fn train_once(&self, learner: &mut Learner, watch: &mut dyn TrainingObserver) -> Result<(), TrainError> {
        let history = self.training_data.history(learner.needs());
        self.train_after(learner, history, watch)
    }

    /// As [`train_once`](TrainingRun::train_once), but the plan's first history is `history`, which has seen everything before the training split.
    ///
    /// # Errors
    /// As [`run`](TrainingRun::run).
    pub fn train_after(
        &self,
        learner: &mut Learner,
        history: History,
        watch: &mut dyn TrainingObserver,
    ) -> Result<(), TrainError> {
        let mut alone = SingleProcess;
        let mut session = TrainingSession::start(self, &mut alone, learner, watch)?;
        session.lanes.set_history(history);
        session.train_to_epoch(1)?;
        Ok(())
    }

    /// Whether it was asked to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What step `step` of `all` is told.
    pub(crate) fn step_settings(&self, step: u64, all: u64) -> StepSettings {
        let TrainingRun { train, parallel, .. } = self;
        StepSettings {
            lr: parallel.lr_factor() * train.lr_at(step, all),
            beta_power: parallel.beta_power(),
            weight_decay: train.weight_decay,
            clip: train.clip,
        }
    }

    /// What to go on from, if anything: the first process reads it for all.
    pub(crate) fn checkpoint(&self, exchange: &mut dyn Exchange) -> Result<Option<Store>, TrainError> {
        let path = self.files.checkpoint();
        let own = if self.resume && exchange.rank() == 0 && path.exists() { Some(Store::read(&path)?) } else { None };
        if !self.resume || exchange.world() == 1 {
            return Ok(own);
        }
        let told = own.map(|store| store.to_bytes()).transpose();
        let told = told.map_err(|source| StoreError::Format { path: path.clone(), source })?.unwrap_or_default();
        let told = exchange.all_gather(0..exchange.world(), &told)?.swap_remove(0);
        Ok(if told.is_empty() { None } else { Some(Store::from_bytes(&told, &path)?) })
    }
}
