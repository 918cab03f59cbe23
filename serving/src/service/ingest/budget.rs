//! Budgets of nodes, memory and disk: what would go beyond them is refused before the machine has no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::service::ingest::IngestError;

/// Bytes that a node is assumed to take at least, with its names and its place in every table.
const LEAST_A_NODE: u64 = 512;
/// Nodes that are always allowed.
const LEAST_NODES: u64 = 10_000;
/// How often memory and disk are looked at.
const EVERY: Duration = Duration::from_millis(200);
const MIB: u64 = 1 << 20;

/// The section `budget` of a server's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetSpec {
    /// Most nodes; events that would add more are refused. Left out: as many as fit in half of `memory_mib`. 0 for no
    /// bound.
    pub nodes: Option<u64>,
    /// Memory of the process in MiB from which on events are refused; left out, 80 % of the machine's memory, or of the
    /// limit of its control group. 0 for no bound.
    pub memory_mib: Option<u64>,
    /// Space in MiB that is left free on the disk of the log; events are refused when less is free. 0 for no bound.
    pub disk_reserve_mib: u64,
}

impl Default for BudgetSpec {
    fn default() -> BudgetSpec {
        BudgetSpec { nodes: None, memory_mib: None, disk_reserve_mib: 256 }
    }
}

/// What is used of each budget. A bound of 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BudgetStatus {
    /// Nodes known.
    pub nodes: u64,
    /// Most nodes.
    pub most_nodes: u64,
    /// Bytes of memory that the process has; 0 where that is not known.
    pub memory_bytes: u64,
    /// Bytes of memory from which on events are refused.
    pub most_memory_bytes: u64,
    /// Bytes that are free on the disk of the log; nothing where that is not known.
    pub disk_free_bytes: Option<u64>,
    /// Bytes that stay free.
    pub disk_reserve_bytes: u64,
    /// Bytes of the features of events.
    pub feature_bytes: u64,
}

/// The budgets of a server, in numbers.
#[derive(Debug)]
pub(crate) struct Budget {
    pub most_nodes: u64,
    most_memory: u64,
    disk_reserve: u64,
    /// A folder on the disk of the log, if it is on one.
    dir: Option<PathBuf>,
    used: Mutex<Option<(Instant, Used)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    memory: u64,
    disk_free: Option<u64>,
}

impl Budget {
    /// The budgets of a history that takes `bytes` with `nodes` nodes.
    pub fn new(spec: &BudgetSpec, nodes: u64, bytes: u64, dir: Option<PathBuf>) -> Budget {
        let machine = machine_memory();
        let most_memory = match spec.memory_mib {
            Some(mib) => mib * MIB,
            None => machine.map_or(0, |machine| machine / 5 * 4),
        };
        // The tables grow by doubling, so twice a node's bytes may be taken.
        let a_node = (2 * bytes / nodes.max(1)).max(LEAST_A_NODE);
        let most_nodes = match spec.nodes {
            Some(nodes) => nodes,
            None if most_memory == 0 => 0,
            None => (most_memory / 2 / a_node).max(LEAST_NODES).max(2 * nodes),
        };
        Budget { most_nodes, most_memory, disk_reserve: spec.disk_reserve_mib * MIB, dir, used: Mutex::default() }
    }

    /// Checks memory and disk.
    ///
    /// # Errors
    /// [`IngestError::OverBudget`], with what is used and what may be.
    pub fn check(&self) -> Result<(), IngestError> {
        let used = self.used();
        if self.most_memory > 0 && used.memory > self.most_memory {
            return Err(IngestError::OverBudget {
                what: "the memory of the server",
                used: format!("{} MiB", used.memory / MIB),
                bound: format!("events are accepted up to {} MiB", self.most_memory / MIB),
                setting: "budget.memory_mib",
            });
        }
        match used.disk_free.filter(|&free| free < self.disk_reserve) {
            Some(free) => Err(IngestError::OverBudget {
                what: "the free space on the disk of the log",
                used: format!("{} MiB", free / MIB),
                bound: format!("events are accepted down to {} MiB", self.disk_reserve / MIB),
                setting: "budget.disk_reserve_mib",
            }),
            None => Ok(()),
        }
    }

    /// Checks the nodes of a history that has `nodes` and would get `new` ones.
    ///
    /// # Errors
    /// [`IngestError::OverBudget`], with what is used and what may be.
    pub fn check_nodes(&self, nodes: u64, new: impl FnOnce() -> usize) -> Result<(), IngestError> {
        if self.most_nodes == 0 {
            return Ok(());
        }
        match new() as u64 {
            new if new > 0 && nodes + new > self.most_nodes => Err(IngestError::OverBudget {
                what: "the number of nodes with those that the events would add",
                used: (nodes + new).to_string(),
                bound: format!("there is room for {}", self.most_nodes),
                setting: "budget.nodes",
            }),
            _ => Ok(()),
        }
    }

    fn used(&self) -> Used {
        let mut known = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((at, used)) if at.elapsed() < EVERY => *used,
            _ => {
                let disk_free = self.dir.as_deref().filter(|_| self.disk_reserve > 0).and_then(disk_free);
                let used = Used { memory: resident_memory().unwrap_or(0), disk_free };
                *known = Some((Instant::now(), used));
                used
            }
        }
    }

    pub fn status(&self, nodes: u64, feature_bytes: u64) -> BudgetStatus {
        let Used { memory, disk_free } = self.used();
        BudgetStatus {
            nodes,
            most_nodes: self.most_nodes,
            memory_bytes: memory,
            most_memory_bytes: self.most_memory,
            disk_free_bytes: disk_free,
            disk_reserve_bytes: self.disk_reserve,
            feature_bytes,
        }
    }
}

/// Bytes of memory of the machine, or of the process's control group if that has less.
fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = 1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(limit.map_or(total, |limit: u64| limit.min(total)))
}

/// Bytes of memory that the process has, without what is swapped out.
fn resident_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

/// Bytes that are free on the disk of a folder, or of the nearest folder above it that exists.
#[cfg(unix)]
fn disk_free(dir: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let dir = dir.ancestors().find(|dir| dir.exists())?;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes()).ok()?;
    let mut facts = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in a zero byte, and the system writes all of `facts` if it returns 0.
    let facts = unsafe {
        if libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) != 0 {
            return None;
        }
        facts.assume_init()
    };
    #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
    Some(facts.f_bavail as u64 * facts.f_frsize as u64)
}

#[cfg(not(unix))]
fn disk_free(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(spec: &BudgetSpec) -> Budget {
        Budget::new(spec, 1_000, 2_000_000, Some(std::env::temp_dir().join("not/there/yet")))
    }

    #[test]
    fn without_settings_the_budgets_are_of_the_machine_and_leave_room() {
        let budget = budget(&BudgetSpec::default());
        let status = budget.status(1_000, 0);
        assert!(status.memory_bytes > MIB && status.most_memory_bytes > status.memory_bytes);
        assert_eq!(status.most_nodes, (status.most_memory_bytes / 2 / 4_000).max(LEAST_NODES));
        assert!(status.disk_free_bytes.is_some());
        assert!(budget.check_nodes(1_000, || 50).is_ok());
    }

    #[test]
    fn an_excess_over_a_budget_is_refused_with_both_numbers_and_0_means_no_bound() {
        let tight = |nodes, memory_mib, disk_reserve_mib| {
            budget(&BudgetSpec { nodes: Some(nodes), memory_mib: Some(memory_mib), disk_reserve_mib })
        };
        let error = tight(1_040, 0, 0).check_nodes(1_000, || 50).unwrap_err().to_string();
        assert!(error.contains("1050") && error.contains("1040") && error.contains("budget.nodes"), "{error}");
        assert!(tight(1_040, 0, 0).check_nodes(2_000, || 0).is_ok(), "events of known nodes go on");
        assert!(tight(0, 0, 0).check_nodes(1 << 40, || 1).is_ok());
        let error = tight(0, 1, 0).check().unwrap_err().to_string();
        assert!(error.contains("budget.memory_mib"), "{error}");
        let error = tight(0, 0, 1 << 40).check().unwrap_err().to_string();
        assert!(error.contains("budget.disk_reserve_mib"), "{error}");
        assert!(tight(0, 0, 0).check().is_ok());
    }
}
