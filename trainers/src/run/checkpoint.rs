//! The whole state of a run in one file, so that a run that was stopped goes on as if it never had been.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempograph_framework::{Features, History, Needs, Store, StoreError};

use crate::divergence::{DIVERGED_LOSS, Divergence};
use crate::step::learner::Learner;
use crate::{EpochReport, Evaluation, Plan, PrefetchReport, Sources, StageTimes, StepRecord, TrainError, TrainReport};

/// Where a run stands. Sums are kept exactly, so that the reports of a resumed run are those of one that never stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Checksums of the data.
    pub sources: Sources,
    /// How the work is shared.
    pub plan: Plan,
    /// Epochs done and examined.
    pub epoch: usize,
    /// Steps taken in all epochs.
    pub step: u64,
    /// Steps taken in this epoch.
    pub epoch_steps: u64,
    /// Events trained in this epoch, by all lanes of all processes.
    pub events: usize,
    /// Sum of this epoch's losses.
    pub loss: f64,
    /// Loss of the first step of the run; 0 before it, and in checkpoints that do not say.
    #[serde(default)]
    pub first_loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Training time of this epoch.
    pub seconds: f64,
    pub stages: StageTimes,
    /// What the pipeline did in this epoch.
    pub prefetch: PrefetchReport,
    pub epochs: Vec<EpochReport>,
    pub best: Option<BestEpoch>,
    /// Seconds of earlier sessions.
    pub earlier_seconds: f64,
}

impl Progress {
    /// A run that has not begun.
    pub fn start(sources: Sources, plan: Plan) -> Progress {
        Progress {
            sources,
            plan,
            epoch: 0,
            step: 0,
            epoch_steps: 0,
            events: 0,
            loss: 0.0,
            first_loss: 0.0,
            lr: 0.0,
            seconds: 0.0,
            stages: StageTimes::default(),
            prefetch: PrefetchReport::default(),
            epochs: Vec::new(),
            best: None,
            earlier_seconds: 0.0,
        }
    }

    /// A step was taken.
    pub fn record_step(&mut self, record: &StepRecord) {
        if self.step == 0 {
            self.first_loss = record.loss;
        }
        self.step += 1;
        self.epoch_steps += 1;
        self.events += record.events;
        self.loss += record.loss;
        self.lr = record.lr;
        self.seconds += record.stages.total();
        self.stages.add(&record.stages);
    }

    /// The mean loss of this epoch, if it grew so far beyond that of the first step that the run has diverged.
    pub fn grown_loss(&self) -> Option<Divergence> {
        let (mean, first) = (self.loss / self.epoch_steps.max(1) as f64, self.first_loss);
        (mean > DIVERGED_LOSS * first.max(1.0)).then_some(Divergence::Growth { mean, first })
    }

    /// Writes down what is under way to the end of epoch `end`, and starts the next.
    pub fn close_epoch(&mut self, end: usize, val: Evaluation, memory_norm: f64) {
        let report = TrainReport {
            loss: self.loss / self.epoch_steps.max(1) as f64,
            events_per_second: self.events as f64 / self.seconds.max(f64::MIN_POSITIVE),
            seconds: self.seconds,
            lr: self.lr,
            stages: self.stages,
            prefetch: std::mem::take(&mut self.prefetch),
        };
        self.epoch = end;
        self.epochs.push(EpochReport { epoch: self.epoch, steps: self.step, train: report, val, memory_norm });
        (self.epoch_steps, self.events, self.loss, self.seconds, self.stages) = (0, 0, 0.0, 0.0, StageTimes::default());
    }
}

/// A checkpoint's arrays: weights, moments, and the state of the lanes.
pub(crate) fn build_checkpoint(
    path: &Path,
    learner: &Learner,
    lanes: impl IntoIterator<Item = Store>,
    progress: &Progress,
) -> Result<Store, TrainError> {
    let mut store = Store::default();
    store.merge("model.", learner.parameters().to_store());
    store.merge("adam.", learner.moments());
    lanes.into_iter().for_each(|lanes| store.merge("", lanes));
    store.set_metadata(
        "progress",
        serde_json::to_string(progress).map_err(|error| TrainError::Note { path: path.into(), error })?,
    );
    Ok(store)
}

/// Reads a checkpoint; weights and moments go into `learner`, and the state of the lanes stays in `store`.
pub(crate) fn restore_checkpoint(
    path: &Path,
    store: &mut Store,
    learner: &mut Learner,
) -> Result<Progress, TrainError> {
    store.check_finite(path)?;
    let progress = note(store, "progress", path)?;
    learner.restore_weights(store.split_off("model."))?;
    learner.restore_moments(store.split_off("adam."))?;
    Ok(progress)
}

/// Weights worth keeping and the history they left at the end of validation.
#[derive(Debug)]
pub struct BestModel {
    /// The weights under their dotted names.
    pub weights: Store,
    /// What the model has seen: everything before the test split.
    pub history: History,
    /// Which epoch they are from.
    pub mark: BestEpoch,
    /// Checksums of the data it was trained on.
    pub sources: Sources,
}

/// Which epoch kept weights are from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestEpoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Its validation score.
    pub score: f64,
}

/// Writes the weights, a history, a mark, and what they were learned from.
pub(crate) fn write_best_model(
    path: &Path,
    learner: &Learner,
    history: &History,
    mark: BestEpoch,
    sources: &Sources,
) -> Result<(), TrainError> {
    let unwritten = |error| TrainError::Note { path: path.into(), error };
    let mut store = Store::default();
    store.merge("model.", learner.parameters().to_store());
    store.merge("history.", history.to_store());
    store.set_metadata("mark", serde_json::to_string(&mark).map_err(unwritten)?);
    store.set_metadata("sources", serde_json::to_string(sources).map_err(unwritten)?);
    Ok(store.write_sealed(path)?)
}

/// Reads what a run kept. `needs` are those of its model.
///
/// # Errors
/// A file that is missing or damaged in any byte, or a history of a model with other needs.
pub fn read_best_model(path: &Path, needs: Needs, features: Features) -> Result<BestModel, TrainError> {
    let mut store = Store::read_sealed(path)?;
    store.check_finite(path)?;
    let (mark, sources) = (note(&store, "mark", path)?, note(&store, "sources", path)?);
    let weights = store.split_off("model.");
    let history = History::from_store(store.split_off("history."), needs, features)?;
    Ok(BestModel { weights, history, mark, sources })
}

fn note<T: DeserializeOwned>(store: &Store, name: &str, path: &Path) -> Result<T, TrainError> {
    let missing = || StoreError::Array { name: name.into(), problem: format!("is no note of {}", path.display()) };
    let text = store.metadata(name).ok_or_else(missing)?;
    serde_json::from_str(text).map_err(|error| TrainError::Note { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_loss_a_million_times_the_first_has_diverged_and_one_extreme_batch_among_many_has_not() {
        let after = |losses: &[f64]| {
            let mut progress = Progress::start(Sources::default(), Plan { minibatch: 1, epoch: 1, memory: 1 });
            losses.iter().for_each(|&loss| progress.record_step(&StepRecord { loss, ..StepRecord::default() }));
            progress.grown_loss()
        };
        assert_eq!(after(&[1.4, 2.5e27]), Some(Divergence::Growth { mean: 1.25e27, first: 1.4 }));
        assert_eq!(after(&[0.01, 3e6]), Some(Divergence::Growth { mean: 1500000.005, first: 0.01 }));
        assert_eq!(after(&[1.4, 1.3, 1e6, 0.9]), None);
        // large losses from the start, as of features of no scale, may still be learned from
        assert_eq!(after(&[1e9, 1e12, 1e8]), None);
    }
}
