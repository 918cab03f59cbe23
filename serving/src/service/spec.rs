//! Settings of a service: its log, its snapshots and late events.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::EngineSpec;
use crate::log::spec::next_to;
use crate::log::{LogKind, LogSpec};
use crate::service::ServiceError;
use crate::service::ingest::budget::BudgetSpec;
use crate::service::ingest::event_time::{Clock, EventTimeSpec};

/// The sections `log`, `snapshots`, `event_time`, `engine` and the key `late` of a server's settings.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceSpec {
    /// The log of record.
    pub log: LogSpec,
    /// Snapshots in the background.
    pub snapshots: SnapshotSpec,
    /// How an event older than the newest is treated.
    pub late: Late,
    /// Bounds on the times of events, and how long they wait.
    pub event_time: EventTimeSpec,
    /// Budgets of nodes, memory and disk.
    pub budget: BudgetSpec,
    /// Settings of the engine.
    pub engine: EngineSpec,
}

/// How an event older than the newest is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// The request is refused, and the error names the event.
    #[default]
    Reject,
    /// The event is applied at the time of the newest event. The log keeps the submitted time.
    ApplyNow,
    /// Every event waits until one has come that is newer by the [window](EventTimeSpec::window). Events are applied in
    /// order of time, as if the stream had been sorted. An event older than those that are applied already is refused.
    Wait,
}

/// When snapshots are taken, where they are, and how many are kept. A bound of 0 means no bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotSpec {
    /// Folder of the snapshots; default: `ARTIFACT.snapshots`, next to the artifact.
    pub dir: Option<PathBuf>,
    /// Take one after this many events.
    pub every_events: u64,
    /// Take one after this many MiB of log.
    pub every_mib: u64,
    /// Take one after this many seconds, if there was any event.
    pub every_seconds: u64,
    /// How many are kept, at least 1. The older ones are used if the newest is damaged.
    pub keep: usize,
    /// Whether one is taken when the server stops, which makes the next start fast.
    pub at_drain: bool,
    /// The wall clock, for ages in the metrics. Nothing is ordered by it.
    #[serde(skip)]
    pub clock: Clock,
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
        if self.late == Late::Wait && self.event_time.window <= 0.0 {
            let wanted = "with late = \"wait\" it must be positive: how much newer an event must be, in the unit of the \
                          times, before those that wait are applied";
            return Err(ServiceError::Setting { key: "event_time.window", value: "0".into(), wanted });
        }
        self.event_time.check().map_err(ServiceError::Conflict)?;
        self.engine.check().map_err(ServiceError::Conflict)
    }
}

impl SnapshotSpec {
    /// Time between snapshots, if there is such a bound.
    pub(super) fn interval(&self) -> Option<Duration> {
        (self.every_seconds > 0).then(|| Duration::from_secs(self.every_seconds))
    }

    /// The snapshot folder of a service started from `artifact`.
    pub fn dir(&self, artifact: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| next_to(artifact, "snapshots"))
    }
}
