//! A run: epochs, validation, the best weights kept, checkpoints along the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tempograph_framework::{History, Store, StoreError, sha256_hex};

use crate::checkpoint::{Mark, Progress, RunFiles, gather, keep, take_up};
use crate::evaluate::{Answers, Evaluation, Examination, evaluate, warm};
use crate::exchange::{Alone, Exchange, agree};
use crate::lanes::{Lanes, Wishes};
use crate::learn::StepRecord;
use crate::report::private_memory_bytes;
use crate::resident::Handed;
use crate::trainee::{StepSettings, Trainee};
use crate::{Course, EpochReport, EvalSpec, ParallelSpec, Part, ProcessReport, SelectBy, Trace, TrainError, TrainSpec};

/// Is told what happens while a run goes on.
pub trait Watch {
    /// A training step was taken; `events` of `of` in this epoch are done.
    fn step(&mut self, _epoch: usize, _events: usize, _of: usize, _record: &StepRecord) {}
    /// Examination of a split goes on; `events` of `of` are done.
    fn examined(&mut self, _what: &str, _events: usize, _of: usize) {}
    /// An epoch is complete.
    fn epoch(&mut self, _report: &EpochReport, _best: bool) {}
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All epochs are done; the best weights and their history are in `best.safetensors`.
    Finished(Fitted),
    /// It was asked to stop; the checkpoint holds its state.
    Stopped(Fitted),
}

/// What fitting measured.
#[derive(Debug)]
pub struct Fitted {
    /// One for each epoch done.
    pub epochs: Vec<EpochReport>,
    /// The epoch whose weights are kept.
    pub best: Option<Mark>,
    /// Steps taken.
    pub steps: u64,
    /// Wall-clock time of all sittings so far.
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

/// Everything a run is made of but its model.
pub struct Fit<'a> {
    /// The data.
    pub course: &'a Course,
    /// How to train.
    pub train: &'a TrainSpec,
    /// How trainers share the work.
    pub parallel: &'a ParallelSpec,
    /// How to validate.
    pub eval: &'a EvalSpec,
    /// Seed of negatives and dropout.
    pub seed: u64,
    /// Where checkpoints go.
    pub files: RunFiles,
    /// Go on from the checkpoint, if there is one.
    pub resume: bool,
    /// Set from outside to stop after the next step.
    pub stop: &'a AtomicBool,
    /// Where the stages of each step are noted, if anywhere.
    pub trace: Option<Arc<Trace>>,
}

impl Fit<'_> {
    /// Trains `trainee`, fresh from its seed, to the end of its epochs or until stopped.
    ///
    /// # Errors
    /// A loss that is not finite, a plan the data does not fit, a file that cannot be written or read, an event that cannot happen.
    pub fn run(&self, trainee: &mut dyn Trainee, watch: &mut dyn Watch) -> Result<Outcome, TrainError> {
        self.run_among(&mut Alone, trainee, watch)
    }

    /// As [`run`](Fit::run), together with other processes that run the same: each hosts its share of the plan's lanes. The first of
    /// them examines the model and writes the files.
    ///
    /// # Errors
    /// As [`run`](Fit::run), and if another process is gone.
    pub fn run_among(&self, exchange: &mut dyn Exchange, trainee: &mut dyn Trainee, watch: &mut dyn Watch) -> Result<Outcome, TrainError> {
        self.sit(exchange, trainee, watch).map_err(|error| match error {
            TrainError::Exchange(error) if self.files.checkpoint().exists() => TrainError::Resumable(error),
            other => other,
        })
    }

    fn sit(&self, exchange: &mut dyn Exchange, trainee: &mut dyn Trainee, watch: &mut dyn Watch) -> Result<Outcome, TrainError> {
        let mut sitting = Sitting::start(self, exchange, trainee, watch)?;
        while !sitting.is_over() {
            let stopped = sitting.train()?;
            let Some(evaluation) = (if stopped { None } else { sitting.validate()? }) else {
                sitting.save()?;
                return Ok(Outcome::Stopped(sitting.fitted()?));
            };
            sitting.close_epoch(evaluation)?;
        }
        Ok(Outcome::Finished(sitting.fitted()?))
    }

    /// Trains one pass over the training split and nothing else: no validation, no files. For measuring.
    ///
    /// # Errors
    /// As [`run`](Fit::run).
    pub fn train_once(&self, trainee: &mut dyn Trainee, watch: &mut dyn Watch) -> Result<(), TrainError> {
        let history = self.course.history(trainee.needs());
        self.train_after(trainee, history, watch)
    }

    /// As [`train_once`](Fit::train_once), but the plan's first history is `history`, which has seen everything before the training split.
    ///
    /// # Errors
    /// As [`run`](Fit::run).
    pub fn train_after(&self, trainee: &mut dyn Trainee, history: History, watch: &mut dyn Watch) -> Result<(), TrainError> {
        let mut alone = Alone;
        let mut sitting = Sitting::start(self, &mut alone, trainee, watch)?;
        sitting.lanes.set_history(history);
        sitting.train()?;
        Ok(())
    }
}

impl Fit<'_> {
    /// What step `step` of `all` is told.
    fn step_settings(&self, step: u64, all: u64) -> StepSettings {
        let Fit { train, parallel, .. } = self;
        StepSettings {
            lr: parallel.lr_factor() * train.lr_at(step, all),
            beta_power: parallel.beta_power(),
            weight_decay: train.weight_decay,
            clip: train.clip,
        }
    }

    /// What to go on from, if anything: the first process reads it for all.
    fn checkpoint(&self, exchange: &mut dyn Exchange) -> Result<Option<Store>, TrainError> {
        let path = self.files.checkpoint();
        let own = if self.resume && exchange.rank() == 0 && path.exists() { Some(Store::read(&path)?) } else { None };
        if !self.resume || exchange.world() == 1 {
            return Ok(own);
        }
        let told = own.map(|store| store.to_bytes()).transpose();
        let told = told.map_err(|source| StoreError::Format { path: path.clone(), source })?.unwrap_or_default();
        let told = exchange.share(0..exchange.world(), &told)?.swap_remove(0);
        Ok(if told.is_empty() { None } else { Some(Store::from_bytes(&told, &path)?) })
    }
}

/// A run from its start, or from a checkpoint, to its end or the next stop.
struct Sitting<'a> {
    fit: &'a Fit<'a>,
    exchange: &'a mut dyn Exchange,
    trainee: &'a mut dyn Trainee,
    lanes: Lanes,
    progress: Progress,
    watch: &'a mut dyn Watch,
    begun: Instant,
    earlier: f64,
    /// The history after the last validation, in the process that examines.
    validated: Option<History>,
    /// The step after which weights were last found the same everywhere.
    agreed: Option<u64>,
}

impl<'a> Sitting<'a> {
    fn start(
        fit: &'a Fit<'a>,
        exchange: &'a mut dyn Exchange,
        trainee: &'a mut dyn Trainee,
        watch: &'a mut dyn Watch,
    ) -> Result<Self, TrainError> {
        let (data, plan) = (fit.course.dataset.checksum.clone(), fit.parallel.plan());
        let mut lanes = Lanes::new(fit, trainee.needs(), exchange)?;
        let mut progress = Progress::start(data.clone(), plan);
        let path = fit.files.checkpoint();
        if let Some(mut store) = fit.checkpoint(exchange)? {
            progress = take_up(&path, &mut store, trainee)?;
            if progress.data != data {
                return Err(TrainError::OtherData { path, found: progress.data, expected: data });
            }
            if progress.plan != plan {
                return Err(TrainError::OtherPlan { path, found: progress.plan, expected: plan });
            }
            lanes.restore(progress.step, &mut store, trainee.needs(), exchange)?;
            lanes.prefetched = progress.prefetch.clone();
        }
        let earlier = progress.earlier_seconds;
        Ok(Sitting { fit, exchange, trainee, lanes, progress, watch, begun: Instant::now(), earlier, validated: None, agreed: None })
    }

    fn is_over(&self) -> bool {
        let (done, patience) = (self.progress.epoch, self.fit.train.patience);
        let waited = self.progress.best.map_or(0, |mark| done - mark.epoch);
        done >= self.fit.train.epochs || (patience > 0 && waited >= patience)
    }

    /// Steps taken at the end of `epochs` epochs.
    fn steps(&self, epochs: usize) -> u64 {
        self.lanes.plan.steps(epochs, self.lanes.batches)
    }

    /// Trains to the end of the epoch, or until stopped: then gives `true`.
    fn train(&mut self) -> Result<bool, TrainError> {
        if self.lanes.plan.lanes() == 1 && self.fit.parallel.prefetch == 0 && self.trainee.resident().is_some() {
            return self.train_on_device();
        }
        let Fit { train, stop, .. } = self.fit;
        let (first, last, all) = (self.steps(self.progress.epoch), self.steps(self.progress.epoch + 1), self.steps(train.epochs));
        while self.progress.step < last {
            let step = self.progress.step;
            let wishes = Wishes { stop: stop.load(Ordering::Relaxed), save: self.is_due() };
            if self.exchange.world() == 1 && wishes.stop {
                return Ok(true);
            }
            let settings = self.fit.step_settings(step, all);
            let (record, agreed) = self.lanes.step(step, &mut *self.trainee, &mut *self.exchange, settings, wishes)?;
            self.progress.passed(&record);
            let of = self.fit.course.split.train.len();
            let done = of * (step + 1 - first) as usize / (last - first) as usize;
            self.watch.step(self.progress.epoch + 1, done, of, &record);
            if self.progress.step.is_multiple_of(self.fit.parallel.check_every) {
                self.check_weights()?;
            }
            if agreed.save {
                self.save()?;
            }
            if self.exchange.world() > 1 && agreed.stop {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`train`](Sitting::train), where the trainee has the history: it is taken there, and brought home for a checkpoint, at the end of the
    /// epoch, and where the run stops.
    fn train_on_device(&mut self) -> Result<bool, TrainError> {
        let last = self.steps(self.progress.epoch + 1);
        // one that stopped at an epoch's end still has to be examined there
        if self.progress.step < last {
            self.lanes.begin_sweep(self.progress.step, &mut *self.exchange)?;
        }
        while self.progress.step < last && !self.fit.stop.load(Ordering::Relaxed) {
            self.visit_device(last)?;
            if self.is_due() && self.progress.step < last {
                self.save()?;
            }
        }
        Ok(self.progress.step < last)
    }

    /// Trains on the trainee's device until step `last`, until stopped, or until a checkpoint is due.
    fn visit_device(&mut self, last: u64) -> Result<(), TrainError> {
        let fit = self.fit;
        let Fit { course, train, stop, .. } = fit;
        let (first, all, of) = (self.steps(self.progress.epoch), self.steps(train.epochs), course.split.train.len());
        let (log, mut goes_on) = (&course.dataset.log, true);
        if let Some(model) = self.trainee.resident() {
            model.enter(self.lanes.take_history(), log);
        }
        let mut handed = Handed::none();
        while goes_on {
            let Sitting { trainee, lanes, progress, watch, .. } = self;
            let Some(model) = trainee.resident() else { break };
            let mut step = progress.step;
            while step < last && model.room() > 0 && !stop.load(Ordering::Relaxed) {
                handed.hand(step, lanes, model, &fit.step_settings(step, all))?;
                step += 1;
            }
            for record in handed.hear(model)? {
                progress.passed(&record);
                let done = of * (record.step + 1 - first) as usize / (last - first) as usize;
                watch.step(progress.epoch + 1, done, of, &record);
            }
            goes_on = step < last && !stop.load(Ordering::Relaxed) && !self.is_due();
        }
        if let Some(model) = self.trainee.resident() {
            self.lanes.set_history(model.leave(log));
        }
        Ok(())
    }

    /// Whether it is time for a checkpoint, by the first process's clock.
    fn is_due(&self) -> bool {
        let due = self.fit.train.checkpoint_minutes * 60.0;
        self.exchange.rank() == 0 && due > 0.0 && self.progress.since_saved(self.begun, self.earlier) > due
    }

    /// All processes have the same weights, or one computes otherwise.
    fn check_weights(&mut self) -> Result<(), TrainError> {
        let step = self.progress.step;
        if self.exchange.world() > 1 && self.fit.parallel.check_every > 0 && self.agreed != Some(step) {
            agree(&mut *self.exchange, self.trainee.weights().sha256().as_bytes(), step)?;
            self.agreed = Some(step);
        }
        Ok(())
    }

    /// Examines the model on the validation split; nothing if stopped.
    fn validate(&mut self) -> Result<Option<Evaluation>, TrainError> {
        let evaluation = if self.exchange.rank() == 0 { self.examine()? } else { None };
        if self.exchange.world() == 1 {
            return Ok(evaluation);
        }
        let path = self.fit.files.checkpoint();
        let unreadable = |error| TrainError::Note { path: path.clone(), error };
        let told = serde_json::to_vec(&evaluation).map_err(unreadable)?;
        let told = self.exchange.share(0..self.exchange.world(), &told)?;
        serde_json::from_slice(&told[0]).map_err(unreadable)
    }

    fn examine(&mut self) -> Result<Option<Evaluation>, TrainError> {
        let Fit { course, train, eval, stop, .. } = self.fit;
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(mut history) = self.at_end_of_training()? else { return Ok(None) };
        let range = course.range(Part::Val);
        let negatives = course.negatives(Part::Val, eval.rules[0], eval);
        let asked = Examination {
            range: range.clone(),
            batch: train.batch,
            negatives: &negatives,
            rank_every: eval.val_every,
            new_nodes: Some(&course.new_nodes),
        };
        let watch = &mut *self.watch;
        let mut heard = |answers: &Answers<'_>| watch.examined("validation", answers.first.index() - range.start, range.len());
        let evaluation = evaluate(&mut *self.trainee, &mut history, &course.dataset.log, &asked, stop, &mut heard)?;
        self.validated = Some(history);
        Ok(evaluation)
    }

    /// A history that has seen the training split; nothing if stopped.
    ///
    /// One that an epoch leaves there is cloned: it stays where a stop would have to resume. Where histories stand elsewhere at the end of
    /// an epoch, the split happens once more, by the weights of now.
    fn at_end_of_training(&mut self) -> Result<Option<History>, TrainError> {
        let Fit { course, train, stop, .. } = self.fit;
        if self.lanes.plan.epoch * self.lanes.plan.memory == 1 {
            return Ok(Some(self.lanes.history().clone()));
        }
        let mut history = course.history(self.trainee.needs());
        let warmed = warm(&mut *self.trainee, &mut history, &course.dataset.log, course.split.train.clone(), train.batch, stop)?;
        Ok(warmed.then_some(history))
    }

    /// Writes down the epoch, and keeps the model if it is the best yet.
    fn close_epoch(&mut self, val: Evaluation) -> Result<(), TrainError> {
        self.check_weights()?;
        let score = match self.fit.train.select_by {
            SelectBy::Ap => val.all.ap,
            SelectBy::Mrr => val.all.mrr,
        };
        self.progress.prefetch = std::mem::take(&mut self.lanes.prefetched);
        self.progress.close_epoch(val, memory_norm(self.lanes.history()));
        let best = self.progress.best.is_none_or(|mark| score > mark.score);
        if best {
            let mark = Mark { epoch: self.progress.epoch, score };
            if let Some(after_val) = self.validated.take() {
                keep(&self.fit.files.best(), self.trainee, &after_val, mark)?;
            }
            self.progress.best = Some(mark);
        }
        self.save()?;
        if let Some(report) = self.progress.epochs.last() {
            self.watch.epoch(report, best);
        }
        Ok(())
    }

    /// Writes a checkpoint of all processes' lanes.
    fn save(&mut self) -> Result<(), TrainError> {
        self.check_weights()?;
        self.progress.earlier_seconds = self.earlier + self.begun.elapsed().as_secs_f64();
        self.progress.prefetch.clone_from(&self.lanes.prefetched);
        let (path, own) = (self.fit.files.checkpoint(), self.lanes.to_store(self.progress.step));
        if self.exchange.world() == 1 {
            return Ok(gather(&path, self.trainee, [own], &self.progress)?.write(&path)?);
        }
        let told = own.to_bytes().map_err(|source| StoreError::Format { path: path.clone(), source })?;
        let told = self.exchange.gather(told)?;
        if self.exchange.rank() == 0 {
            let lanes = told.iter().map(|told| Store::from_bytes(told, &path)).collect::<Result<Vec<_>, _>>()?;
            gather(&path, self.trainee, lanes, &self.progress)?.write(&path)?;
        }
        Ok(())
    }

    fn fitted(mut self) -> Result<Fitted, TrainError> {
        self.check_weights()?;
        let (history_sha256, processes) = (self.history_sha256()?, self.processes()?);
        Ok(Fitted {
            processes,
            seconds: self.earlier + self.begun.elapsed().as_secs_f64(),
            history_bytes: self.lanes.bytes() as u64,
            weights_sha256: self.trainee.weights().sha256(),
            history_sha256,
            steps: self.progress.step,
            epochs: self.progress.epochs,
            best: self.progress.best,
        })
    }

    /// What every process keeps in memory.
    fn processes(&mut self) -> Result<Vec<ProcessReport>, TrainError> {
        let own = ProcessReport {
            machine: self.lanes.machine,
            shared_bytes: self.lanes.shared_bytes() as u64,
            own_bytes: self.lanes.own_bytes() as u64,
            private_bytes: private_memory_bytes(),
        };
        let path = self.fit.files.report();
        let unreadable = |error| TrainError::Note { path: path.clone(), error };
        let told = self.exchange.share(0..self.exchange.world(), &serde_json::to_vec(&own).map_err(unreadable)?)?;
        told.iter().map(|told| serde_json::from_slice(told).map_err(unreadable)).collect()
    }

    /// One hash of all histories of the plan.
    fn history_sha256(&mut self) -> Result<String, TrainError> {
        // Processes have their histories in the order of the plan.
        let told = self.exchange.share(0..self.exchange.world(), self.lanes.hashes().as_bytes())?;
        Ok(sha256_hex(told))
    }
}

/// Mean Euclidean norm of the memories that are not zero.
fn memory_norm(history: &History) -> f64 {
    let width = history.needs().memory.max(1);
    let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let norms: Vec<f64> = history.memory().chunks(width).map(norm).filter(|&norm| norm > 0.0).collect();
    norms.iter().sum::<f64>() / norms.len().max(1) as f64
}
