//! The whole state of a run in one file, so that a run that was stopped goes on as if it never had been.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::AutodiffModule;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempograph_framework::{Features, History, Needs, Store, StoreError, weights, with_weights};
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::{AutodiffBackend, Backend};

use crate::adam::Adam;
use crate::{EpochReport, Evaluation, Stages, StepRecord, TrainError, TrainReport};

/// Where a run stands. Sums are kept exactly, so that the reports of a resumed run are those of one that never stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Checksum of the data.
    pub data: String,
    /// Epoch under way, from 0.
    pub epoch: usize,
    /// First event not yet trained on in it.
    pub next: usize,
    /// Steps taken in all epochs.
    pub step: u64,
    /// Steps taken in this epoch.
    pub epoch_steps: u64,
    /// Sum of this epoch's losses.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Training time of this epoch.
    pub seconds: f64,
    pub stages: Stages,
    pub epochs: Vec<EpochReport>,
    pub best: Option<Mark>,
    /// Seconds of earlier sittings.
    pub earlier_seconds: f64,
}

impl Progress {
    /// A step was taken; `next` is the first event not trained on.
    pub fn passed(&mut self, next: usize, record: &StepRecord) {
        self.next = next;
        self.step += 1;
        self.epoch_steps += 1;
        self.loss += record.loss;
        self.lr = record.lr;
        self.seconds += record.stages.total();
        self.stages.add(&record.stages);
    }

    /// Seconds of this run since its last checkpoint.
    pub fn since_saved(&self, begun: Instant, earlier: f64) -> f64 {
        earlier + begun.elapsed().as_secs_f64() - self.earlier_seconds
    }

    /// Writes down the epoch under way and starts the next at the beginning of `train`.
    pub fn close_epoch(&mut self, val: Evaluation, memory_norm: f64, train: Range<usize>) {
        let report = TrainReport {
            loss: self.loss / self.epoch_steps.max(1) as f64,
            events_per_second: train.len() as f64 / self.seconds.max(f64::MIN_POSITIVE),
            seconds: self.seconds,
            lr: self.lr,
            stages: self.stages,
        };
        self.epoch += 1;
        self.epochs.push(EpochReport { epoch: self.epoch, train: report, val, memory_norm });
        self.next = train.start;
        (self.epoch_steps, self.loss, self.seconds, self.stages) = (0, 0.0, 0.0, Stages::default());
    }
}

/// Writes weights, moments, history and progress.
pub(crate) fn save<B, M>(path: &Path, model: &M, optimizer: &Adam<B>, history: &History, progress: &Progress) -> Result<(), TrainError>
where
    B: AutodiffBackend,
    B::InnerBackend: TemporalOps,
    M: AutodiffModule<B>,
{
    let mut store = Store::default();
    store.join("model.", weights::<B, M>(model));
    store.join("adam.", optimizer.to_store());
    store.join("history.", history.to_store());
    store.note("progress", serde_json::to_string(progress).map_err(|error| TrainError::Note { path: path.into(), error })?);
    Ok(store.write(path)?)
}

/// Reads a checkpoint into a fresh model and optimiser.
pub(crate) fn load<B, M>(
    path: &Path,
    model: M,
    optimizer: &mut Adam<B>,
    needs: Needs,
    features: Features,
    device: &B::Device,
) -> Result<(M, History, Progress), TrainError>
where
    B: AutodiffBackend,
    B::InnerBackend: TemporalOps,
    M: AutodiffModule<B>,
{
    let mut store = Store::read(path)?;
    let progress = note(&store, "progress", path)?;
    let model = with_weights::<B, M>(model, store.split_off("model."))?;
    optimizer.restore(store.split_off("adam."), device)?;
    let history = History::from_store(store.split_off("history."), needs, features)?;
    Ok((model, history, progress))
}

/// A model worth keeping and the history it left at the end of validation.
#[derive(Debug)]
pub struct Kept<M> {
    /// The model.
    pub model: M,
    /// What it has seen: everything before the test split.
    pub history: History,
    /// Which epoch it is from.
    pub mark: Mark,
}

/// Which epoch a kept model is from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Counted from 1.
    pub epoch: usize,
    /// Its validation score.
    pub score: f64,
}

/// Writes a model, its history and its mark.
pub(crate) fn keep<B: Backend, M: burn::module::Module<B>>(
    path: &Path,
    model: &M,
    history: &History,
    mark: Mark,
) -> Result<(), TrainError> {
    let mut store = Store::default();
    store.join("model.", weights::<B, M>(model));
    store.join("history.", history.to_store());
    store.note("mark", serde_json::to_string(&mark).map_err(|error| TrainError::Note { path: path.into(), error })?);
    Ok(store.write(path)?)
}

/// Reads what a run kept into a fresh model.
///
/// # Errors
/// A file that is missing, damaged, or of another model.
pub fn kept<B: Backend, M: burn::module::Module<B>>(
    path: &Path,
    model: M,
    needs: Needs,
    features: Features,
) -> Result<Kept<M>, TrainError> {
    let mut store = Store::read(path)?;
    let mark = note(&store, "mark", path)?;
    let model = with_weights::<B, M>(model, store.split_off("model."))?;
    Ok(Kept { model, history: History::from_store(store.split_off("history."), needs, features)?, mark })
}

fn note<T: DeserializeOwned>(store: &Store, name: &str, path: &Path) -> Result<T, TrainError> {
    let missing = || StoreError::Array { name: name.into(), problem: format!("is no note of {}", path.display()) };
    let text = store.noted(name).ok_or_else(missing)?;
    serde_json::from_str(text).map_err(|error| TrainError::Note { path: path.into(), error })
}

/// Names of a run's files.
#[derive(Clone, Debug)]
pub struct RunFiles {
    /// The run's folder.
    pub folder: PathBuf,
}

impl RunFiles {
    /// State to resume from.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }

    /// Best weights, with the history at the end of validation.
    pub fn best(&self) -> PathBuf {
        self.folder.join("best.safetensors")
    }

    /// Everything measured.
    pub fn report(&self) -> PathBuf {
        self.folder.join("report.json")
    }

    /// The spec with every default filled in.
    pub fn spec(&self) -> PathBuf {
        self.folder.join("spec.toml")
    }

    /// TensorBoard's event files.
    pub fn board(&self) -> PathBuf {
        self.folder.join("tensorboard")
    }
}
