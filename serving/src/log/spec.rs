//! The settings of the log of record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::log::{EmbeddedLog, Log, LogError, MemoryLog};

/// The section `log` of a server's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSpec {
    /// The kind of log.
    pub kind: LogKind,
    /// Folder of the embedded log; left out, `ARTIFACT.log` next to the artifact.
    pub dir: Option<PathBuf>,
    /// Most events that may wait to be appended and applied, over all requests; more are refused.
    pub queue: usize,
    /// Most events that share one flush to the disk.
    pub group: usize,
    /// Events retained in the log, with those that a snapshot needs; a million by default. Truncated events cannot warm
    /// new weights, and their ids are forgotten.
    pub keep_events: Option<u64>,
    /// With `kafka`: addresses of brokers, `host:port,host:port`.
    pub brokers: String,
    /// With `kafka`: the topic, which must exist. It must retain what a recovery needs, and must not be compacted.
    pub topic: String,
    /// With `kafka`: the one partition that is the log.
    pub partition: i32,
    /// With `kafka`: only read, as a replica of the server that writes, until it is
    /// [promoted](crate::Service::promote).
    pub follow: bool,
    /// With `kafka`: how many of the newest ids are remembered. The embedded log remembers the ids of all events that
    /// it retains.
    pub remember_ids: usize,
    /// With `kafka`: more settings of librdkafka, such as `"security.protocol"`.
    pub client: BTreeMap<String, String>,
}

/// Where the log is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogKind {
    /// In local files.
    #[default]
    Embedded,
    /// In memory: a server that stops loses what came after its artifact.
    Memory,
    /// In a Kafka-protocol topic; needs a program built with the feature `kafka`.
    Kafka,
}

impl Default for LogSpec {
    fn default() -> LogSpec {
        LogSpec {
            kind: LogKind::default(),
            dir: None,
            queue: 65_536,
            group: 8_192,
            keep_events: Some(1_000_000),
            brokers: "127.0.0.1:9092".into(),
            topic: "tempograph".into(),
            partition: 0,
            follow: false,
            remember_ids: 1_000_000,
            client: BTreeMap::new(),
        }
    }
}

impl LogSpec {
    /// The folder of the log of a service that was started from `artifact`.
    pub fn dir(&self, artifact: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| next_to(artifact, "log"))
    }

    /// The file of the list of refused events; nothing for a log in memory.
    pub(crate) fn refused_path(&self, artifact: &Path) -> Option<PathBuf> {
        match self.kind {
            LogKind::Embedded => Some(self.dir(artifact).join("refused.jsonl")),
            LogKind::Memory => None,
            LogKind::Kafka => Some(next_to(artifact, "refused.jsonl")),
        }
    }

    /// The topic's address, for messages.
    pub(crate) fn address(&self) -> String {
        format!("{}[{}] at {}", self.topic, self.partition, self.brokers)
    }

    /// Opens the log of a service that was started from `artifact`.
    pub(crate) fn open(&self, artifact: &Path) -> Result<Arc<dyn Log>, LogError> {
        match self.kind {
            LogKind::Embedded => Ok(Arc::new(EmbeddedLog::open(&self.dir(artifact))?)),
            LogKind::Memory => Ok(Arc::new(MemoryLog::default())),
            LogKind::Kafka => self.open_kafka(),
        }
    }

    #[cfg(feature = "kafka")]
    fn open_kafka(&self) -> Result<Arc<dyn Log>, LogError> {
        Ok(Arc::new(crate::log::KafkaLog::open(self)?))
    }

    #[cfg(not(feature = "kafka"))]
    fn open_kafka(&self) -> Result<Arc<dyn Log>, LogError> {
        let fact = "this program was built without the feature `kafka`".into();
        Err(LogError::Storage { place: self.address(), fact })
    }
}

/// The path `ARTIFACT.what`, in the folder of the artifact.
pub(crate) fn next_to(artifact: &Path, what: &str) -> PathBuf {
    let name = artifact.file_name().unwrap_or("artifact".as_ref()).to_string_lossy();
    artifact.with_file_name(format!("{name}.{what}"))
}
