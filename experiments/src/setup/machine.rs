//! The machine's cores, memory and GPUs.

use std::fs;

/// This machine.
pub(crate) struct Machine {
    /// Processor cores.
    pub cores: usize,
    /// Memory this process may use, bytes, if the system reports it.
    pub memory: Option<u64>,
    /// GPUs that the driver lists, if the program was built for them.
    pub gpus: Vec<Gpu>,
}

/// A GPU.
pub(crate) struct Gpu {
    pub name: String,
    /// Its memory.
    pub bytes: u64,
}

impl Machine {
    /// The machine this runs on.
    pub fn here() -> Machine {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Machine { cores, memory: memory(), gpus: gpus() }
    }
}

/// The machine's resources, or less if the process's cgroup has a limit.
fn memory() -> Option<u64> {
    let message = fs::read_to_string("/proc/meminfo").ok()?;
    let total = message
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    Some(limit.map_or(1024 * total, |limit| limit.min(1024 * total)))
}

#[cfg(feature = "cuda")]
fn gpus() -> Vec<Gpu> {
    let named = tempograph_kernels::gpus().unwrap_or_default().into_iter().enumerate();
    named.map(|(index, name)| Gpu { name, bytes: tempograph_kernels::gpu_total_bytes(index).unwrap_or(0) }).collect()
}

#[cfg(not(feature = "cuda"))]
fn gpus() -> Vec<Gpu> {
    Vec::new()
}
