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

    /// TensorBoard's event files.
    pub fn board(&self) -> PathBuf {
        self.folder.join("tensorboard")
    }
}
