//! One session of a run: epochs, validation, the best weights, checkpoints.

use std::ops::Range;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempograph_framework::{History, Scorer, Store, StoreError, sha256_hex};

use crate::divergence::{Divergence, LOSS_CHECK};
use crate::parallel::lanes::{ControlFlags, Lanes};
use crate::parallel::layout::HistoryLocation;
use crate::run::checkpoint::{BestEpoch, Progress, build_checkpoint, restore_checkpoint, write_best_model};
use crate::run::report::private_memory_bytes;
use crate::run::{StartPoint, TrainingObserver, TrainingSummary};
use crate::setup::TrainingRun;
use crate::step::evaluate::{BatchScores, Evaluation, EvaluationTask, evaluate, warm_up};
use crate::step::learner::Learner;
use crate::step::record::StepRecord;
use crate::transport::exchange::{Exchange, check_same_hash};
use crate::{Part, ProcessReport, SelectBy, TrainError};

/// A run from its start, or from a checkpoint, to its end or the next stop.
pub(crate) struct TrainingSession<'a> {
    pub(super) run: &'a TrainingRun<'a>,
    pub(super) exchange: &'a mut dyn Exchange,
    pub(super) learner: &'a mut Learner,
    pub lanes: Lanes,
    pub(super) progress: Progress,
    pub(super) observer: &'a mut dyn TrainingObserver,
    begun: Instant,
    /// Seconds of the sessions before.
    earlier: f64,
    /// The history after the last validation, in the process that evaluates.
    validated: Option<History>,
    /// The step after which all processes were last seen to have the same weights.
    agreed: Option<u64>,
    /// The largest norm of all gradients in a step of this session.
    largest_gradient: f64,
    /// Whether it goes on from a checkpoint.
    resumed: bool,
}

impl<'a> TrainingSession<'a> {
    /// From the checkpoint, if there is one to go on from.
    pub fn start(
        run: &'a TrainingRun<'a>,
        exchange: &'a mut dyn Exchange,
        learner: &'a mut Learner,
        observer: &'a mut dyn TrainingObserver,
    ) -> Result<Self, TrainError> {
        let (sources, plan) = (run.training_data.sources.clone(), run.parallel.plan());
        let mut lanes = Lanes::new(run, learner, exchange)?;
        let mut progress = Progress::start(sources.clone(), plan);
        let path = run.files.checkpoint();
        let mut resumed = false;
        if let Some(mut store) = run.checkpoint(exchange)? {
            resumed = true;
            progress = restore_checkpoint(&path, &mut store, learner)?;
            sources.check(&progress.sources, &[]).map_err(|fact| TrainError::OtherData { path: path.clone(), fact })?;
            if progress.plan != plan {
                return Err(TrainError::OtherPlan { path, found: progress.plan, expected: plan });
            }
            lanes.restore(progress.step, &mut store, learner.needs(), exchange)?;
            lanes.prefetched = progress.prefetch.clone();
        }
        let earlier = progress.earlier_seconds;
        Ok(TrainingSession {
            run,
            exchange,
            learner,
            lanes,
            progress,
            observer,
            begun: Instant::now(),
            earlier,
            validated: None,
            agreed: None,
            largest_gradient: 0.0,
            resumed,
        })
    }

    /// Adds to the error of a training that diverged what this session has seen.
    pub fn explain(&self, error: TrainError) -> TrainError {
        match error {
            TrainError::Diverged { step, event, what, .. } => {
                TrainError::Diverged { step, event, what, largest_gradient: self.largest_gradient }
            }
            other => other,
        }
    }

    /// Everything is checked: tells the observer where the run begins.
    pub fn begin(&mut self) -> Result<(), TrainError> {
        let Progress { step, epochs, best, .. } = &self.progress;
        self.observer.started(&StartPoint { resumed: self.resumed, steps: *step, epochs, best: *best })
    }

    /// Whether there is no epoch left to train.
    pub fn is_finished(&self) -> bool {
        let (done, patience) = (self.progress.epoch, self.run.train.patience);
        let waited = self.progress.best.map_or(0, |mark| done - mark.epoch);
        done >= self.run.train.epochs || (patience > 0 && waited >= patience)
    }

    /// The epoch after which the model is evaluated next: when every history has made one more
    /// pass, so that the first one is at the end of the training split, or the last epoch of the run.
    pub fn next_evaluation_epoch(&self) -> usize {
        let passes = self.lanes.plan.passes();
        self.run.train.epochs.min((self.progress.epoch / passes + 1) * passes)
    }

    /// The steps from where the last epoch closed to the end of epoch `end`.
    fn steps_to(&self, end: usize) -> EpochSteps {
        let after = |epochs| self.lanes.plan.steps(epochs, self.lanes.batches);
        let TrainingRun { training_data, train, .. } = self.run;
        let begin = self.progress.epoch;
        EpochSteps {
            end,
            steps: after(begin)..after(end),
            of_run: after(train.epochs),
            events: (end - begin) * training_data.split.train.len(),
        }
    }

    /// Trains to the end of epoch `end`. `Ok(false)` if stopped before.
    pub fn train_to_epoch(&mut self, end: usize) -> Result<bool, TrainError> {
        let epoch = self.steps_to(end);
        if self.lanes.history_location == HistoryLocation::Device {
            return self.train_on_device(&epoch);
        }
        let alone = self.exchange.world() == 1;
        while self.progress.step < epoch.steps.end {
            let flags = ControlFlags { stop: self.run.is_stopped(), save: self.checkpoint_is_due() };
            if alone && flags.stop {
                return Ok(false);
            }
            let step = self.progress.step;
            let settings = self.run.step_settings(step, epoch.of_run);
            let (record, agreed) = self.lanes.step(step, &mut *self.learner, &mut *self.exchange, settings, flags)?;
            self.record_step(&record, &epoch)?;
            if self.progress.step.is_multiple_of(self.run.parallel.check_every) {
                self.check_weights()?;
            }
            if agreed.save {
                self.save()?;
            }
            if !alone && agreed.stop {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A step of `epoch` was taken.
    ///
    /// # Errors
    /// A mean loss of the epoch that grew beyond use.
    pub(super) fn record_step(&mut self, record: &StepRecord, epoch: &EpochSteps) -> Result<(), TrainError> {
        self.progress.record_step(record);
        self.largest_gradient = self.largest_gradient.max(record.gradient_norm);
        self.observer.step(epoch.end, epoch.events_done(record.step), epoch.events, record);
        let tested = self.progress.epoch_steps.is_multiple_of(LOSS_CHECK) || self.progress.step == epoch.steps.end;
        match self.progress.grown_loss().filter(|_| tested) {
            Some(what) => Err(self.lanes.diverged(record.step, what)),
            None => Ok(()),
        }
    }

    /// Wall-clock time of all sessions so far.
    fn seconds(&self) -> f64 {
        self.earlier + self.begun.elapsed().as_secs_f64()
    }

    /// Whether it is time for a checkpoint, by the first process's clock.
    pub(super) fn checkpoint_is_due(&self) -> bool {
        let due = self.run.train.checkpoint_minutes * 60.0;
        self.exchange.rank() == 0 && due > 0.0 && self.seconds() - self.progress.earlier_seconds > due
    }

    /// All processes have the same weights, or one computes otherwise.
    fn check_weights(&mut self) -> Result<(), TrainError> {
        let step = self.progress.step;
        if self.exchange.world() > 1 && self.run.parallel.check_every > 0 && self.agreed != Some(step) {
            check_same_hash(&mut *self.exchange, self.learner.parameters().to_store().sha256().as_bytes(), step)?;
            self.agreed = Some(step);
        }
        Ok(())
    }

    /// Trains to the next evaluation and closes the epoch. If stopped, writes a checkpoint: `Ok(false)`.
    pub fn train_and_validate(&mut self) -> Result<bool, TrainError> {
        let evaluation = if self.train_to_epoch(self.next_evaluation_epoch())? { self.validate()? } else { None };
        match evaluation {
            Some(evaluation) => self.close_epoch(evaluation).map(|()| true),
            None => self.save().map(|()| false),
        }
    }

    /// Evaluates the model on the validation split; nothing if stopped.
    fn validate(&mut self) -> Result<Option<Evaluation>, TrainError> {
        // Scores that are not finite end every process in the same way.
        let evaluation = if self.exchange.rank() == 0 { self.evaluate_validation() } else { Ok(None) };
        let evaluation = match evaluation {
            Ok(evaluation) => Ok(evaluation),
            Err(TrainError::Metric(error)) if error.is_not_finite() => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        self.first_says(evaluation)?.map_err(|why| self.diverged(Divergence::Score(why)))
    }

    /// What the first process says.
    fn first_says<T: Serialize + DeserializeOwned>(&mut self, own: T) -> Result<T, TrainError> {
        if self.exchange.world() == 1 {
            return Ok(own);
        }
        let path = self.run.files.checkpoint();
        let unreadable = |error| TrainError::Note { path: path.clone(), error };
        let messages = serde_json::to_vec(&own).map_err(unreadable)?;
        let messages = self.exchange.all_gather(0..self.exchange.world(), &messages)?;
        serde_json::from_slice(&messages[0]).map_err(unreadable)
    }

    /// The error of a training that diverged in its last step.
    fn diverged(&self, what: Divergence) -> TrainError {
        self.lanes.diverged(self.progress.step.saturating_sub(1), what)
    }

    /// All histories of all processes are finite, or every process ends in the same way.
    fn check_histories(&mut self) -> Result<(), TrainError> {
        let mut found = self.lanes.not_finite().unwrap_or_default();
        if self.exchange.world() > 1 {
            let messages = self.exchange.all_gather(0..self.exchange.world(), found.as_bytes())?;
            found = messages
                .iter()
                .find(|messages| !messages.is_empty())
                .map_or_else(String::new, |messages| String::from_utf8_lossy(messages).into_owned());
        }
        if found.is_empty() { Ok(()) } else { Err(self.diverged(Divergence::History(found))) }
    }

    fn evaluate_validation(&mut self) -> Result<Option<Evaluation>, TrainError> {
        let TrainingRun { training_data, train, eval, stop, .. } = self.run;
        if self.run.is_stopped() {
            return Ok(None);
        }
        let Some(mut history) = self.history_after_training()? else { return Ok(None) };
        let range = training_data.range(Part::Val);
        let negatives = training_data.negatives(Part::Val, eval.rules[0], eval);
        let task = EvaluationTask {
            range: range.clone(),
            batch: train.batch,
            negatives: &negatives,
            rank_every: eval.val_every,
            new_nodes: Some(&training_data.new_nodes),
        };
        let observer = &mut *self.observer;
        let mut progress = |answers: &BatchScores<'_>| {
            observer.evaluation_progress("validation", answers.first.index() - range.start, range.len())
        };
        let evaluation =
            evaluate(&mut *self.learner, &mut history, &training_data.dataset.log, &task, stop, &mut progress)?;
        self.validated = Some(history);
        Ok(evaluation)
    }

    /// A history that has seen the training split; nothing if stopped.
    ///
    /// The first training history is cloned if it is there: the original stays where a stopped run resumes. Otherwise the split
    /// is replayed with the present weights, and the score is lower: weights have learned from memories that earlier weights made,
    /// batch for batch, and do worse with memories that are all their own.
    fn history_after_training(&mut self) -> Result<Option<History>, TrainError> {
        let TrainingRun { training_data, train, stop, .. } = self.run;
        if self.lanes.plan.position_at(0, self.progress.step, self.lanes.batches).resets_history() {
            return Ok(Some(self.lanes.history().clone()));
        }
        let mut history = training_data.history(self.learner.needs());
        let warmed = warm_up(
            &mut *self.learner,
            &mut history,
            &training_data.dataset.log,
            training_data.split.train.clone(),
            train.batch,
            stop,
        )?;
        Ok(warmed.then_some(history))
    }

    /// Records the epoch, and writes the model if it is the best so far.
    pub fn close_epoch(&mut self, val: Evaluation) -> Result<(), TrainError> {
        self.check_weights()?;
        self.check_histories()?;
        let score = match self.run.train.select_by {
            // One event has no AP that means anything.
            SelectBy::Ap => val.all.ap.unwrap_or(val.all.mrr),
            SelectBy::Mrr => val.all.mrr,
        };
        self.progress.prefetch = std::mem::take(&mut self.lanes.prefetched);
        self.progress.close_epoch(self.next_evaluation_epoch(), val, memory_norm(self.lanes.history()));
        let best = self.progress.best.is_none_or(|mark| score > mark.score);
        if best {
            let mark = BestEpoch { epoch: self.progress.epoch, score };
            if let Some(after_val) = self.validated.take() {
                let sources = &self.run.training_data.sources;
                write_best_model(&self.run.files.best(), self.learner, &after_val, mark, sources)?;
            }
            self.progress.best = Some(mark);
        }
        self.save()?;
        if let Some(report) = self.progress.epochs.last() {
            self.observer.epoch(report, best);
        }
        Ok(())
    }

    /// Writes a checkpoint of all processes' lanes.
    pub fn save(&mut self) -> Result<(), TrainError> {
        self.check_weights()?;
        self.check_histories()?;
        self.progress.earlier_seconds = self.seconds();
        self.progress.prefetch.clone_from(&self.lanes.prefetched);
        let (path, own) = (self.run.files.checkpoint(), self.lanes.to_store(self.progress.step));
        if self.exchange.world() == 1 {
            return Ok(build_checkpoint(&path, self.learner, [own], &self.progress)?.write_sealed(&path)?);
        }
        let gathered = own.to_bytes().map_err(|source| StoreError::Format { path: path.clone(), source })?;
        let gathered = self.exchange.gather(gathered)?;
        if self.exchange.rank() == 0 {
            let lanes =
                gathered.iter().map(|gathered| Store::from_bytes(gathered, &path)).collect::<Result<Vec<_>, _>>()?;
            build_checkpoint(&path, self.learner, lanes, &self.progress)?.write_sealed(&path)?;
        }
        Ok(())
    }

    /// What the session measured.
    pub fn summary(mut self) -> Result<TrainingSummary, TrainError> {
        self.check_weights()?;
        let (history_sha256, processes) = (self.history_sha256()?, self.processes()?);
        Ok(TrainingSummary {
            processes,
            seconds: self.seconds(),
            history_bytes: self.lanes.bytes() as u64,
            weights_sha256: self.learner.parameters().to_store().sha256(),
            history_sha256,
            steps: self.progress.step,
            epochs: self.progress.epochs,
            best: self.progress.best,
        })
    }

    /// The memory of every process.
    fn processes(&mut self) -> Result<Vec<ProcessReport>, TrainError> {
        let own = ProcessReport {
            machine: self.lanes.machine,
            shared_bytes: self.lanes.shared_bytes() as u64,
            own_bytes: self.lanes.own_bytes() as u64,
            private_bytes: private_memory_bytes(),
        };
        let path = self.run.files.report();
        let unreadable = |error| TrainError::Note { path: path.clone(), error };
        let gathered =
            self.exchange.all_gather(0..self.exchange.world(), &serde_json::to_vec(&own).map_err(unreadable)?)?;
        gathered.iter().map(|gathered| serde_json::from_slice(gathered).map_err(unreadable)).collect()
    }

    /// One hash over all histories of the plan.
    fn history_sha256(&mut self) -> Result<String, TrainError> {
        // Processes have their histories in the order of the plan.
        let gathered = self.exchange.all_gather(0..self.exchange.world(), self.lanes.hashes().as_bytes())?;
        Ok(sha256_hex(gathered))
    }
}

/// The steps of one epoch, or of the several epochs between two evaluations of a plan.
pub(super) struct EpochSteps {
    /// The last of them, counted from 1.
    pub(super) end: usize,
    /// Counted from the first of the run.
    pub(super) steps: Range<u64>,
    /// Steps of all epochs.
    pub(super) of_run: u64,
    /// Their events.
    pub(super) events: usize,
}

impl EpochSteps {
    /// How many of its events are done after step `step`.
    fn events_done(&self, step: u64) -> usize {
        let Range { start, end } = self.steps;
        self.events * (step + 1 - start) as usize / (end - start) as usize
    }
}

/// Mean Euclidean norm of the memories that are not zero.
fn memory_norm(history: &History) -> f64 {
    let width = history.needs().memory.max(1);
    let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let norms: Vec<f64> = history.memory().chunks(width).map(norm).filter(|&norm| norm != 0.0).collect();
    norms.iter().sum::<f64>() / norms.len().max(1) as f64
}
