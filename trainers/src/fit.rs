//! A run: epochs, validation, the best weights kept, checkpoints along the way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tempograph_framework::{
    Candidates, Dataset, Draw, EventId, Features, History, Needs, NegativeRule, NegativeSampler, NegativeSet, NewNodes, Purpose, Split,
    Timestamp,
};

use crate::checkpoint::{Mark, Progress, RunFiles, keep, load, save};
use crate::epoch::walk;
use crate::evaluate::{Answers, Evaluation, Examination, evaluate};
use crate::learn::{Drawn, Learner, StepRecord};
use crate::trainee::Trainee;
use crate::{EpochReport, EvalSpec, SelectBy, TrainError, TrainSpec};

/// The data of a run, cut and indexed.
#[derive(Debug)]
pub struct Course {
    /// Events and nodes.
    pub dataset: Dataset,
    /// The features a model reads: the dataset's own, fewer, or others in their place.
    pub features: Features,
    /// Training, validation and test.
    pub split: Split,
    /// Whom negatives are drawn from.
    pub candidates: Arc<Candidates>,
    /// Nodes no training event touches.
    pub new_nodes: NewNodes,
    /// Evaluation negatives of validation and test from a file, which then stand in for drawn ones.
    pub fixed: Option<[NegativeSet; 2]>,
}

/// A part of the log that is examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Validation.
    Val,
    /// Test.
    Test,
}

impl Course {
    /// Indexes `dataset` for training and examination.
    ///
    /// # Errors
    /// A log that is not sorted, or too long.
    pub fn new(dataset: Dataset, features: Features, split: Split) -> Result<Course, TrainError> {
        let log = &dataset.log;
        let train_end = EventId(split.train.end as u64);
        let candidates = Arc::new(Candidates::build(log.src(), log.dst(), log.time(), train_end)?);
        let new_nodes = NewNodes::after_training(log.src(), log.dst(), train_end);
        Ok(Course { split, features, candidates, new_nodes, dataset, fixed: None })
    }

    /// A history that has seen nothing, for a model with these needs.
    pub fn history(&self, needs: Needs) -> History {
        let origin = self.dataset.log.time().first().copied().unwrap_or(Timestamp(0));
        let mut history = History::new(self.dataset.nodes, needs, origin, self.features.clone());
        history.follow(&self.dataset.log);
        history
    }

    /// The events of a part.
    pub fn range(&self, part: Part) -> Range<usize> {
        match part {
            Part::Val => self.split.val.clone(),
            Part::Test => self.split.test.clone(),
        }
    }

    /// Whom the positives of a part are set against under `rule`.
    pub fn negatives(&self, part: Part, rule: NegativeRule, eval: &EvalSpec) -> NegativeSet {
        match &self.fixed {
            Some(sets) => sets[part as usize].clone(),
            None => NegativeSet::sampled(self.candidates.clone(), rule, eval.seed, eval.negatives),
        }
    }
}

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
    /// Wall-clock time of all sittings so far.
    pub seconds: f64,
    /// Bytes of the history.
    pub history_bytes: u64,
}

/// Everything a run is made of but its model.
pub struct Fit<'a> {
    /// The data.
    pub course: &'a Course,
    /// How to train.
    pub train: &'a TrainSpec,
    /// How to validate.
    pub eval: &'a EvalSpec,
    /// Seed of negatives and dropout.
    pub seed: u64,
    /// Where checkpoints go.
    pub files: RunFiles,
    /// Go on from the checkpoint, if there is one.
    pub resume: bool,
    /// Set from outside to stop at the next batch.
    pub stop: &'a AtomicBool,
}

impl Fit<'_> {
    /// Trains `trainee`, fresh from its seed, to the end of its epochs or until stopped.
    ///
    /// # Errors
    /// A loss that is not finite, a file that cannot be written or read, an event that cannot happen.
    pub fn run(&self, trainee: &mut dyn Trainee, watch: &mut dyn Watch) -> Result<Outcome, TrainError> {
        let mut sitting = Sitting::start(self, trainee, watch)?;
        while !sitting.is_over() {
            sitting.train()?;
            let Some((evaluation, history)) = sitting.validate()? else {
                sitting.save()?;
                return Ok(Outcome::Stopped(sitting.fitted()));
            };
            sitting.close_epoch(evaluation, &history)?;
        }
        Ok(Outcome::Finished(sitting.fitted()))
    }
}

impl Fit<'_> {
    /// Trains one pass over the training split and nothing else: no validation, no files. For measuring.
    ///
    /// # Errors
    /// As [`run`](Fit::run).
    pub fn train_once(&self, trainee: &mut dyn Trainee, watch: &mut dyn Watch) -> Result<(), TrainError> {
        Sitting::start(self, trainee, watch)?.train()
    }
}

/// A run from its start, or from a checkpoint, to its end or the next stop.
struct Sitting<'a> {
    fit: &'a Fit<'a>,
    trainee: &'a mut dyn Trainee,
    history: History,
    progress: Progress,
    watch: &'a mut dyn Watch,
    begun: Instant,
    earlier: f64,
}

impl<'a> Sitting<'a> {
    fn start(fit: &'a Fit<'a>, trainee: &'a mut dyn Trainee, watch: &'a mut dyn Watch) -> Result<Self, TrainError> {
        let path = fit.files.checkpoint();
        let data = fit.course.dataset.checksum.clone();
        let (history, progress) = if fit.resume && path.exists() {
            load(&path, trainee, fit.course.features.clone())?
        } else {
            let next = fit.course.split.train.start;
            (fit.course.history(trainee.needs()), Progress { data: data.clone(), next, ..Progress::default() })
        };
        if progress.data != data {
            return Err(TrainError::OtherData { path, found: progress.data, expected: data });
        }
        let earlier = progress.earlier_seconds;
        Ok(Sitting { fit, trainee, history, progress, watch, begun: Instant::now(), earlier })
    }

    fn is_over(&self) -> bool {
        let (done, patience) = (self.progress.epoch, self.fit.train.patience);
        let waited = self.progress.best.map_or(0, |mark| done - mark.epoch);
        done >= self.fit.train.epochs || (patience > 0 && waited >= patience)
    }

    /// Trains to the end of the epoch, or until stopped.
    fn train(&mut self) -> Result<(), TrainError> {
        let Fit { course, train, seed, stop, files, .. } = self.fit;
        let (log, range) = (&course.dataset.log, course.split.train.clone());
        let draw = Draw::new(*seed);
        let negatives = NegativeSampler::new(course.candidates.clone(), train.negative_rule, draw.of(Purpose::Negatives));
        let epoch = self.progress.epoch as u32;
        let sampling = Draw::new(draw.of(Purpose::Sampling).at(epoch, 0).next_u64()).of(Purpose::Sampling);
        let steps = (range.len().div_ceil(train.batch) * train.epochs) as u64;
        let (progress, watch, begun, earlier) = (&mut self.progress, &mut *self.watch, self.begun, self.earlier);
        let rest = progress.next..range.end;
        let mut learner = Learner {
            trainee: &mut *self.trainee,
            negatives: &negatives,
            dropout: draw.of(Purpose::Dropout),
            spec: train,
            epoch,
            step: progress.step,
            steps,
            last: StepRecord::default(),
            drawn: Drawn::default(),
            passed: |trainee: &dyn Trainee, history: &History, next: usize, record: &StepRecord| {
                progress.passed(next, record);
                watch.step(progress.epoch + 1, next - range.start, range.len(), record);
                let due = train.checkpoint_minutes * 60.0;
                if due > 0.0 && progress.since_saved(begun, earlier) > due {
                    progress.earlier_seconds = earlier + begun.elapsed().as_secs_f64();
                    save(&files.checkpoint(), trainee, history, progress)?;
                }
                Ok(())
            },
        };
        walk(&mut self.history, log, rest, train.batch, sampling, stop, &mut learner)?;
        Ok(())
    }

    /// Examines the model on the validation split; gives the history after it, or nothing if stopped.
    fn validate(&mut self) -> Result<Option<(Evaluation, History)>, TrainError> {
        let Fit { course, train, eval, stop, .. } = self.fit;
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let range = course.range(Part::Val);
        let negatives = course.negatives(Part::Val, eval.rules[0], eval);
        let asked = Examination {
            range: range.clone(),
            batch: train.batch,
            negatives: &negatives,
            rank_every: eval.val_every,
            new_nodes: Some(&course.new_nodes),
        };
        // The run's own history stays at the end of training, where a stop would have to resume.
        let mut history = self.history.clone();
        let watch = &mut *self.watch;
        let mut heard = |answers: &Answers<'_>| watch.examined("validation", answers.first.index() - range.start, range.len());
        let evaluation = evaluate(&mut *self.trainee, &mut history, &course.dataset.log, &asked, stop, &mut heard)?;
        Ok(evaluation.map(|evaluation| (evaluation, history)))
    }

    /// Writes down the epoch, keeps the model if it is the best yet, and makes ready for the next.
    fn close_epoch(&mut self, val: Evaluation, after_val: &History) -> Result<(), TrainError> {
        let score = match self.fit.train.select_by {
            SelectBy::Ap => val.all.ap,
            SelectBy::Mrr => val.all.mrr,
        };
        self.progress.close_epoch(val, memory_norm(&self.history), self.fit.course.split.train.clone());
        let best = self.progress.best.is_none_or(|mark| score > mark.score);
        if best {
            let mark = Mark { epoch: self.progress.epoch, score };
            keep(&self.fit.files.best(), self.trainee, after_val, mark)?;
            self.progress.best = Some(mark);
        }
        self.history.reset();
        self.save()?;
        if let Some(report) = self.progress.epochs.last() {
            self.watch.epoch(report, best);
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), TrainError> {
        self.progress.earlier_seconds = self.earlier + self.begun.elapsed().as_secs_f64();
        save(&self.fit.files.checkpoint(), self.trainee, &self.history, &self.progress)
    }

    fn fitted(self) -> Fitted {
        let seconds = self.earlier + self.begun.elapsed().as_secs_f64();
        Fitted { epochs: self.progress.epochs, best: self.progress.best, seconds, history_bytes: self.history.bytes() as u64 }
    }
}

/// Mean Euclidean norm of the memories that are not zero.
fn memory_norm(history: &History) -> f64 {
    let width = history.needs().memory.max(1);
    let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let norms: Vec<f64> = history.memory().chunks(width).map(norm).filter(|&norm| norm > 0.0).collect();
    norms.iter().sum::<f64>() / norms.len().max(1) as f64
}
