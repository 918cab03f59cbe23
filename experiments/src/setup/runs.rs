//! Opens a run's folder.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use tempograph_framework::{History, Store};
use tempograph_trainers::{BestEpoch, BestModel, Learner, Part, RunFiles, TrainingData, read_best_model, warm_up};

use crate::setup::data;
use crate::setup::data::NEGATIVES;
use crate::setup::device;
use crate::setup::device::Device;
use crate::setup::model::build_learner;
use crate::setup::spec::{Difference, RunSpec, differences};
use crate::terminal::interrupt::Interrupted;

/// The spec a run was trained with, and its data.
pub(crate) struct Run {
    pub spec: RunSpec,
    pub training_data: TrainingData,
    pub files: RunFiles,
}

impl Run {
    /// Opens the run in `folder`, with `sets` overriding its spec, and starts its threads.
    pub fn open(folder: &Path, sets: &[String]) -> Result<Run> {
        let files = RunFiles { folder: folder.to_path_buf() };
        if !files.best().exists() {
            bail!("{} holds no trained model ({} is missing)", folder.display(), files.best().display());
        }
        let mut spec = RunSpec::read(&files.spec(), sets)?;
        check_sets(&RunSpec::read(&files.spec(), &[])?, &spec, folder)?;
        // Before anything computes: the first parallel loop would start the thread pool with its default size.
        device::init_thread_pool(spec.threads)?;
        let mut training_data = data::open(&spec.data)?;
        data::resolve(&mut spec, &mut training_data)?;
        Ok(Run { spec, training_data, files })
    }

    /// The best weights and the history at the end of validation.
    pub fn best_model(&self) -> Result<BestModel> {
        let (folder, data) = (self.files.folder.display(), &self.training_data);
        let best = read_best_model(&self.files.best(), self.spec.needs()?, data.features.clone())
            .with_context(|| format!("cannot read what the run in {folder} kept"))?;
        if let Err(fact) = data.sources.check(&best.sources, &NEGATIVES) {
            bail!("the run in {folder} is not what is there now, or its data in {}: {fact}", self.spec.data.path);
        }
        let (seen, before) = (best.history.seen(), data.split.test.start);
        if seen != before as u64 {
            bail!(
                "the history in {} has seen {seen} events, and the test begins at event {before}",
                self.files.best().display()
            );
        }
        Ok(best)
    }

    /// The run's model with these weights, on the CPU.
    pub fn model(&self, weights: Store) -> Result<Learner> {
        let mut model = build_learner(&self.spec, &self.training_data, &Device::Cpu)?.print_notice();
        model.restore_weights(weights).with_context(|| format!("in {}", self.files.best().display()))?;
        Ok(model)
    }

    /// The best model, and the history at the start of `part`. The history is computed again if it was not stored.
    pub fn restore_before(&self, part: Part, stop: &AtomicBool) -> Result<RestoredModel> {
        let BestModel { weights, mut history, mark, .. } = self.best_model()?;
        let mut model = self.model(weights)?;
        if part == Part::Val {
            history.reset();
            let range = 0..self.training_data.range(Part::Val).start;
            if !warm_up(&mut model, &mut history, &self.training_data.dataset.log, range, self.spec.train.batch, stop)?
            {
                return Err(Interrupted("stopped".into()).into());
            }
        }
        Ok(RestoredModel { model, history, mark })
    }
}

/// Refuses settings under which the model, or what it has seen, is not the run's.
fn check_sets(was: &RunSpec, is: &RunSpec, folder: &Path) -> Result<()> {
    // Where the data is may change; what is there is compared by its checksum.
    let free = |key: &str| {
        ["name", "export", "executor", "threads", "device", "parallel.threads", "data.path", "data.static_memory"]
            .contains(&key)
            || key.starts_with("eval.")
            || key.starts_with("data.negatives")
    };
    let found = differences(&was.to_toml()?, &is.to_toml()?)?;
    let refused: Vec<String> = found.iter().filter(|found| !free(&found.key)).map(Difference::to_string).collect();
    if refused.is_empty() {
        return Ok(());
    }
    bail!(
        "{}: the run in {} was trained otherwise, so this would be about another model or another past; what may be set is eval.*, \
         data.negatives, threads and device",
        refused.join(", "),
        folder.display()
    )
}

/// The best model of a run, loaded for evaluation.
pub(crate) struct RestoredModel {
    pub model: Learner,
    pub history: History,
    pub mark: BestEpoch,
}
