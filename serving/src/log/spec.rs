//! Which log of record, and where.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::service::beside;

/// The section `log` of a server's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSpec {
    /// What keeps it.
    pub kind: LogKind,
    /// Folder of the embedded log; left out, beside the artifact: `ARTIFACT.log`.
    pub dir: Option<PathBuf>,
    /// Events that may wait to be logged and applied, over all requests: the next is refused.
    pub queue: usize,
    /// Most events that share one flush to the disk.
    pub group: usize,
    /// Events kept in the log before the oldest snapshot; left out, all. Events that are given up cannot warm new weights, and their
    /// ids are forgotten.
    pub keep_events: Option<u64>,
}

/// What keeps the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogKind {
    /// Files of this machine.
    #[default]
    Embedded,
    /// This process: a server that stops forgets what came after its artifact.
    Memory,
}

impl Default for LogSpec {
    fn default() -> LogSpec {
        LogSpec { kind: LogKind::default(), dir: None, queue: 65_536, group: 8_192, keep_events: None }
    }
}

impl LogSpec {
    /// The folder of the log of what was started from `artifact`.
    pub fn dir(&self, artifact: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| beside(artifact, "log"))
    }
}
