//! The files of a run.

use std::path::PathBuf;

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

    /// What the run's owner is: held as long as a process writes to the folder.
    pub fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// The files of the run before, until the first epoch of the run that replaces it is complete.
    pub fn replaced(&self) -> PathBuf {
        self.folder.join("replaced")
    }

    /// The artifact that a finished run exports.
    pub fn artifact(&self) -> PathBuf {
        self.folder.join("artifact")
    }

    /// TensorBoard's event files.
    pub fn board(&self) -> PathBuf {
        self.folder.join("tensorboard")
    }
}
