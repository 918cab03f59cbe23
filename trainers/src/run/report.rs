//! What a run measured, as `report.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tempograph_framework::{LinkMetrics, Lookup, write_atomic};

use crate::{Evaluation, PrefetchReport, Sources, StageTimes};

/// Version of the report's form. It rises when a field changes its meaning or goes; new fields leave it.
pub const REPORT_SCHEMA: u32 = 1;

/// Everything a run measured. Times are seconds, sizes bytes, rates per second; metrics lie in `0..=1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form ([`REPORT_SCHEMA`]).
    pub schema: u32,
    /// Name of the run, from the spec.
    pub name: String,
    /// `running`, `stopped`, `finished`, `failed` or `diverged`.
    pub status: Status,
    /// Why the run failed or diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Seed of weights, negatives and dropout.
    pub seed: u64,
    /// Threads that computed.
    pub threads: usize,
    /// Where the tensors lived.
    pub device: String,
    /// Version of the program.
    pub version: String,
    /// Commit it was built from, if known.
    pub commit: Option<String>,
    /// The spec with every default filled in.
    pub spec: serde_json::Value,
    /// The data.
    pub data: DataReport,
    /// Learned numbers.
    pub parameters: usize,
    /// One for each examination: after every epoch, of a plan with `j` sets of negatives and `k` histories after every `j k`.
    pub epochs: Vec<EpochReport>,
    /// Steps taken.
    #[serde(default)]
    pub steps: u64,
    /// SHA-256 of the weights after the last step, in hexadecimal.
    #[serde(default)]
    pub weights_sha256: Option<String>,
    /// SHA-256 of all histories after the last step, in hexadecimal.
    #[serde(default)]
    pub history_sha256: Option<String>,
    /// The epoch, counted from 1, whose weights were kept.
    pub best_epoch: Option<usize>,
    /// The kept weights on the test split, under the first of the spec's rules.
    pub test: Option<Evaluation>,
    /// The same under every rule, by its name.
    pub test_by_rule: BTreeMap<String, Evaluation>,
    /// Models without weights on the same questions.
    pub floors: Vec<Baseline>,
    /// Largest resident memory of the process so far.
    pub peak_memory_bytes: u64,
    /// Bytes of the history: memory, mail, neighbours.
    pub history_bytes: u64,
    /// What the processes talked over: `tcp`, `mpi` or `nccl`; nothing for one process.
    #[serde(default)]
    pub transport: Option<String>,
    /// What each process keeps in memory, at the end.
    #[serde(default)]
    pub processes: Vec<ProcessReport>,
    /// Wall-clock time of all sessions.
    pub seconds: f64,
}

/// What one process of a training keeps in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// The machine it is on, by the first process there.
    pub machine: usize,
    /// Bytes of histories and of the log by node that it has together with other processes of the machine; each of them reports them.
    pub shared_bytes: u64,
    /// Bytes of histories and graphs that it has for itself.
    pub own_bytes: u64,
    /// Bytes of all its memory that no other process sees, as the system counts them; 0 where it does not tell.
    pub private_bytes: u64,
}

/// How far a run got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is under way, or was killed.
    Running,
    /// It was asked to stop and can be resumed.
    Stopped,
    /// It is complete.
    Finished,
    /// An error ended it; the report's `error` has the reason.
    Failed,
    /// Its numbers left the finite ones; the report's `error` says where. The last checkpoint is from before.
    Diverged,
}

/// What a run was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// Name of the set.
    pub name: String,
    /// SHA-256 of its content, as it was read.
    pub checksum: String,
    /// All that was read, by the key of the spec that names it: SHA-256 of the content, and where it is cut.
    #[serde(default)]
    pub sources: Sources,
    /// Events.
    pub events: usize,
    /// Nodes.
    pub nodes: usize,
    /// Columns of edge features.
    pub edge_features: usize,
    /// Columns of node features.
    pub node_features: usize,
    /// Width of the static memory the model reads; 0 for none.
    #[serde(default)]
    pub static_memory: usize,
    /// First events of validation and of test.
    pub split: [usize; 2],
    /// Validation and test events that touch a node unseen in training.
    pub new_node_events: [usize; 2],
}

/// One epoch, or the epochs between two evaluations of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The last of them, counted from 1.
    pub epoch: usize,
    /// Steps taken until its end.
    #[serde(default)]
    pub steps: u64,
    /// Training.
    pub train: TrainReport,
    /// Validation afterwards.
    pub val: Evaluation,
    /// Mean Euclidean norm of the memories of nodes that have one, after training.
    pub memory_norm: f64,
}

/// The training part of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Mean loss of its steps.
    pub loss: f64,
    /// Events that all processes together trained on each second.
    pub events_per_second: f64,
    /// Time it took.
    pub seconds: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Where the time of the first process went.
    pub stages: StageTimes,
    /// What the first process made ready ahead, and how stale the memories were; nothing without `parallel.prefetch`.
    #[serde(default)]
    pub prefetch: PrefetchReport,
}

/// A heuristic on the test split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its name.
    pub name: String,
    /// Which negatives it was asked: a rule's name, or `fixed` and the file.
    #[serde(default)]
    pub negatives: String,
    /// What a query saw of its own batch.
    pub history: Lookup,
    /// How it did.
    pub test: LinkMetrics,
}

impl Report {
    /// Writes the report, whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        write_atomic(path, &serde_json::to_vec_pretty(self)?)
    }

    /// Reads a report.
    ///
    /// # Errors
    /// What the file system says, or that it is no report, naming the field.
    pub fn read(path: &Path) -> std::io::Result<Report> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

/// Largest resident memory of this process so far, bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    status("VmHWM:")
}

/// Memory of this process that lies in no file and is shared with nobody, bytes; 0 where the system does not tell.
pub(crate) fn private_memory_bytes() -> u64 {
    status("RssAnon:")
}

/// What Linux says of this process's memory, bytes.
fn status(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
