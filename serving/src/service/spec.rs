//! What a service is told of its log, its snapshots and late events.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::engine::EngineSpec;
use crate::log::spec::next_to;
use crate::log::{LogKind, LogSpec};
use crate::service::ServiceError;

/// The sections `log`, `snapshots`, `engine` and the key `late` of a server's settings.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSpec {
    /// The log of record.
    pub log: LogSpec,
    /// Snapshots in the background.
    pub snapshots: SnapshotSpec,
    /// What becomes of an event that is older than the newest.
    pub late: Late,
    /// How the engine works.
    pub engine: EngineSpec,
}

/// What becomes of an event that is older than the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// Its request is refused, and it is named.
    #[default]
    Reject,
    /// It happens now: at the time of the newest event. The log keeps the time it was told with.
    ApplyNow,
}

/// When snapshots are taken, where they are, and how many are kept. A bound of 0 is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotSpec {
    /// Their folder; left out, beside the artifact: `ARTIFACT.snapshots`.
    pub dir: Option<PathBuf>,
    /// After so many events.
    pub every_events: u64,
    /// After so many MiB of log.
    pub every_mib: u64,
    /// After so many seconds, if there was any event.
    pub every_seconds: u64,
    /// How many are kept, at least 1; the older ones are there for the day the newest is damaged.
    pub keep: usize,
    /// Whether one is taken when the server is asked to stop, which makes the next start quick.
    pub at_drain: bool,
    /// What tells the time of day, for ages in the metrics. Nothing is ever ordered by it.
    #[serde(skip)]
    pub clock: Clock,
}

/// A clock on the wall, which may go backwards.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub fn() -> SystemTime);

impl Default for Clock {
    fn default() -> Clock {
        Clock(SystemTime::now)
    }
}

impl PartialEq for Clock {
    /// Settings are the same whichever clock is looked at.
    fn eq(&self, _: &Clock) -> bool {
        true
    }
}

impl Default for SnapshotSpec {
    fn default() -> SnapshotSpec {
        SnapshotSpec {
            dir: None,
            every_events: 100_000,
            every_mib: 256,
            every_seconds: 0,
            keep: 2,
            at_drain: true,
            clock: Clock::default(),
        }
    }
}

impl ServiceSpec {
    pub(super) fn check(&self) -> Result<(), ServiceError> {
        for (key, value) in
            [("log.queue", self.log.queue), ("log.group", self.log.group), ("snapshots.keep", self.snapshots.keep)]
        {
            if value == 0 {
                return Err(ServiceError::Setting { key, value: "0".into(), wanted: "it must be at least 1" });
            }
        }
        if self.log.follow && self.log.kind != LogKind::Kafka {
            let wanted = "only a topic is written by another server: log.kind = \"kafka\"";
            return Err(ServiceError::Setting { key: "log.follow", value: "true".into(), wanted });
        }
        self.engine.check().map_err(ServiceError::Conflict)
    }
}

impl SnapshotSpec {
    /// Time between snapshots, where time counts.
    pub(super) fn interval(&self) -> Option<Duration> {
        (self.every_seconds > 0).then(|| Duration::from_secs(self.every_seconds))
    }

    /// The folder of the snapshots of what was started from `artifact`.
    pub fn dir(&self, artifact: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| next_to(artifact, "snapshots"))
    }
}
