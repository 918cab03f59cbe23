//! A run's folder, opened again.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use tempograph_framework::{History, Store};
use tempograph_trainers::{Course, Kept, Learner, Mark, Part, RunFiles, kept, warm};

use crate::setup::data;
use crate::setup::device;
use crate::setup::device::Device;
use crate::setup::model::learner;
use crate::setup::spec::RunSpec;

/// The spec a run was trained with, and its data.
pub(crate) struct Run {
    pub spec: RunSpec,
    pub course: Course,
    pub files: RunFiles,
}

impl Run {
    /// Opens the run in `folder`, `sets` laid over its spec, and starts its threads.
    pub fn open(folder: &Path, sets: &[String]) -> Result<Run> {
        let files = RunFiles { folder: folder.to_path_buf() };
        if !files.best().exists() {
            bail!("{} holds no trained model ({} is missing)", folder.display(), files.best().display());
        }
        let mut spec = RunSpec::read(&files.spec(), sets)?;
        // Before anything computes: the first parallel loop would start the threads by itself.
        device::use_threads(spec.threads)?;
        let mut course = data::open(&spec.data)?;
        data::resolve(&mut spec, &mut course)?;
        Ok(Run { spec, course, files })
    }

    /// The best weights and the history at the end of validation.
    pub fn kept(&self) -> Result<Kept> {
        kept(&self.files.best(), self.spec.needs()?, self.course.features.clone())
            .with_context(|| format!("cannot read what the run in {} kept", self.files.folder.display()))
    }

    /// The run's model with these weights, on the CPU.
    pub fn model(&self, weights: Store) -> Result<Learner> {
        let mut model = learner(&self.spec, &self.course, &Device::Cpu)?.said();
        model.restore_weights(weights).with_context(|| format!("in {}", self.files.best().display()))?;
        Ok(model)
    }

    /// The best model and the history at the start of `part`, made anew where it was not kept.
    pub fn before(&self, part: Part, stop: &AtomicBool) -> Result<Best> {
        let Kept { weights, mut history, mark } = self.kept()?;
        let mut model = self.model(weights)?;
        if part == Part::Val {
            history.reset();
            let range = 0..self.course.range(Part::Val).start;
            if !warm(&mut model, &mut history, &self.course.dataset.log, range, self.spec.train.batch, stop)? {
                bail!("stopped");
            }
        }
        Ok(Best { model, history, mark })
    }
}

/// What a run kept, ready to be asked.
pub(crate) struct Best {
    pub model: Learner,
    pub history: History,
    pub mark: Mark,
}
