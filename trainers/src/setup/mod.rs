//! The inputs of a run.
pub(crate) mod files;
pub(crate) mod spec;
pub(crate) mod trace;
pub(crate) mod training_data;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::{EvalSpec, ParallelSpec, RunFiles, Trace, TrainSpec, TrainingData};

/// The inputs of a run, except its model.
pub struct TrainingRun<'a> {
    /// The data.
    pub training_data: &'a TrainingData,
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
    /// Resume from the checkpoint, if there is one.
    pub resume: bool,
    /// Set by the caller to stop after the next step.
    pub stop: &'a AtomicBool,
    /// The trace of the stages of each step, if one is written.
    pub trace: Option<Arc<Trace>>,
}
