//! How reads are scheduled.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// In which order reads are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// By deadline and fair to tenants; what would be late is refused at once.
    #[default]
    Deadline,
    /// As they come, late or not.
    Fifo,
}

/// `[scheduler]` of a server's spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulerSpec {
    /// In which order.
    pub policy: Policy,
    /// Threads that compute answers; 0 for half of the cores.
    pub workers: usize,
    /// Most pairs answered together.
    pub max_batch: usize,
    /// Longest wait for company, in microseconds.
    pub max_wait_us: u64,
    /// Most reads that wait.
    pub queue: usize,
    /// Most reads of one tenant that wait.
    pub tenant_queue: usize,
    /// Candidates ranked before a tighter deadline may come between.
    pub chunk: usize,
    /// The deadline of a read that names none, in milliseconds.
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
            deadline_ms: 1000,
        }
    }
}

impl SchedulerSpec {
    /// Says what will not do, naming the key and its value.
    ///
    /// # Errors
    /// A sentence for a bound of 0 where at least 1 is needed.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("max_batch", self.max_batch),
            ("queue", self.queue),
            ("tenant_queue", self.tenant_queue),
            ("chunk", self.chunk),
            ("deadline_ms", self.deadline_ms as usize),
        ];
        match bounds.iter().find(|(_, bound)| *bound == 0) {
            Some((key, _)) => Err(format!("scheduler.{key} is 0; it must be at least 1")),
            None => Ok(()),
        }
    }

    /// The deadline of a read that names none, from when it comes.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// Longest wait for company.
    pub(crate) fn max_wait(&self) -> Duration {
        Duration::from_micros(self.max_wait_us)
    }

    /// Threads that compute answers on this machine.
    pub(crate) fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        if self.workers > 0 { self.workers } else { cores.div_ceil(2) }
    }
}
