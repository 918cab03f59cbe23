//! A run's folder, opened again.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::Cpu;
use tempograph_models::Tgn;
use tempograph_trainers::{Course, Kept, Part, RunFiles, kept, warm};

use crate::spec::RunSpec;
use crate::{data, device};

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
        let course = data::open(&spec.data)?;
        data::resolve(&mut spec, &course);
        Ok(Run { spec, course, files })
    }

    /// The best weights and the history at the end of validation.
    pub fn best(&self) -> Result<Kept<Tgn<Cpu>>> {
        best_of::<Cpu>(&self.files, &self.spec, &self.course, &Default::default())
    }

    /// The best weights and the history at the start of `part`, made anew where it was not kept.
    pub fn before(&self, part: Part, stop: &AtomicBool) -> Result<Kept<Tgn<Cpu>>> {
        let mut kept = self.best()?;
        if part == Part::Val {
            kept.history.reset();
            let range = 0..self.course.range(Part::Val).start;
            if !warm::<Cpu, _>(&kept.model, &mut kept.history, &self.course.dataset.log, range, self.spec.train.batch, stop)? {
                bail!("stopped");
            }
        }
        Ok(kept)
    }
}

/// What the run in `files` kept.
pub(crate) fn best_of<B: TemporalOps>(files: &RunFiles, spec: &RunSpec, course: &Course, device: &B::Device) -> Result<Kept<Tgn<B>>> {
    let blank = Tgn::<B>::new(spec.tgn(), data::widths(course), spec.seed, device);
    kept::<B, _>(&files.best(), blank, spec.tgn().needs(), course.features.clone())
        .with_context(|| format!("cannot read what the run in {} kept", files.folder.display()))
}
