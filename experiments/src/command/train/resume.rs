//! Whether a folder may be written to, and whether a run may go on.

use anyhow::{Context as _, Result, bail};
use tempograph_trainers::{RunFiles, Schedule};

use crate::command::train::TrainArgs;
use crate::setup::folder::holds_run;
use crate::setup::spec::{Difference, RunSpec, differences};

/// Refuses a folder that the run may not write to: `--resume` without the same run there, a run there without `--force`. Gives what differs
/// from the run that is resumed.
pub(super) fn check_folder(files: &RunFiles, spec: &RunSpec, args: &TrainArgs) -> Result<Vec<Difference>> {
    let folder = &files.folder;
    if args.resume && !files.spec().exists() {
        bail!("{} holds no run to resume; leave --resume out to start", folder.display());
    }
    if args.resume {
        let before =
            std::fs::read_to_string(files.spec()).with_context(|| format!("cannot read {}", files.spec().display()))?;
        let found = differences(&before, &spec.to_toml()?)
            .with_context(|| format!("cannot read {}", files.spec().display()))?;
        check_resumable(&found, spec, files)?;
        return Ok(found);
    }
    if holds_run(files) && !args.force {
        let hint = "--resume goes on with it, --force replaces it, --out DIR puts the new one elsewhere";
        bail!("{} holds a run already: {hint}", folder.display());
    }
    Ok(Vec::new())
}

/// Refuses to go on with a run otherwise than longer, on other threads or on another device.
fn check_resumable(found: &[Difference], spec: &RunSpec, files: &RunFiles) -> Result<()> {
    let free = ["threads", "parallel.threads", "device", "train.epochs"];
    let refused: Vec<String> =
        found.iter().filter(|one| !free.contains(&one.key.as_str())).map(Difference::to_string).collect();
    if !refused.is_empty() {
        bail!(
            "the spec differs from that of the run in {} ({}): {}; a run is resumed with its own settings, but for train.epochs (more), \
             threads, parallel.threads and device",
            files.folder.display(),
            files.spec().display(),
            refused.join(", ")
        );
    }
    let Some(longer) = found.iter().find(|one| one.key == "train.epochs") else { return Ok(()) };
    if longer.was.parse::<usize>().is_ok_and(|was| spec.train.epochs < was) {
        bail!("{longer}: a run may train longer than it was to, and no shorter");
    }
    if spec.train.schedule != Schedule::Constant {
        let schedule = serde_json::to_value(spec.train.schedule)?;
        bail!(
            "{longer}, and train.schedule = {schedule} divides the learning rate over all epochs: the longer run has other rates from its first \
             step on, and is another run. Start it anew with --out DIR, or resume with train.epochs = {}",
            longer.was
        );
    }
    Ok(())
}
