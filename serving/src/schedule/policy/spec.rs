//! How reads are scheduled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The order in which reads are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// By deadline, and fair to tenants. A read that would be late is refused at once.
    #[default]
    Deadline,
    /// In order of arrival, late or not.
    Fifo,
}

/// `[scheduler]` of a server's spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulerSpec {
    /// The order in which reads are answered.
    pub policy: Policy,
    /// Threads that compute answers; 0 for half of the cores.
    pub workers: usize,
    /// Most pairs of one pass.
    pub max_batch: usize,
    /// Longest wait for more reads to share a pass, in microseconds.
    pub max_wait_us: u64,
    /// Most waiting reads.
    pub queue: usize,
    /// Most waiting reads of one tenant.
    pub tenant_queue: usize,
    /// Most candidates or pairs of a long read before shorter reads may run in between.
    pub chunk: usize,
    /// Time of such a chunk in microseconds: as many candidates are taken as have taken that long before.
    pub chunk_us: u64,
    /// The deadline of a read that names none, in milliseconds after its arrival.
    pub deadline_ms: u64,
}

impl Default for SchedulerSpec {
    fn default() -> SchedulerSpec {
        SchedulerSpec {
            policy: Policy::Deadline,
            workers: 0,
            max_batch: 256,
            max_wait_us: 200,
            queue: 4096,
            tenant_queue: 1024,
            chunk: 1024,
            chunk_us: 1000,
            deadline_ms: 1000,
        }
    }
}

impl SchedulerSpec {
    /// Checks the settings. An error names the key and its value.
    ///
    /// # Errors
    /// A sentence for a bound of 0 where at least 1 is needed.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("max_batch", self.max_batch),
            ("queue", self.queue),
            ("tenant_queue", self.tenant_queue),
            ("chunk", self.chunk),
            ("chunk_us", self.chunk_us as usize),
            ("deadline_ms", self.deadline_ms as usize),
        ];
        match bounds.iter().find(|(_, bound)| *bound == 0) {
            Some((key, _)) => Err(format!("scheduler.{key} is 0; it must be at least 1")),
            None => Ok(()),
        }
    }

    /// The deadline of a read that names none, as time after its arrival.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// Longest wait for more reads to share a pass.
    pub(crate) fn max_wait(&self) -> Duration {
        Duration::from_micros(self.max_wait_us)
    }

    /// Number of threads that compute answers on this machine.
    pub(crate) fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        if self.workers > 0 { self.workers } else { cores.div_ceil(2) }
    }
}
