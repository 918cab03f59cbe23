//! The device of tensors, and the number of threads.

use std::fmt;

use crate::terminal::print::print;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use anyhow::anyhow;
use anyhow::{Context, Result, bail};
use clap::Args;
use tempograph_kernels::cpu::SimdLevel;

/// The device of tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// Host memory. The threads of this process compute.
    Cpu,
    /// NVIDIA GPUs by their numbers.
    #[cfg(feature = "cuda")]
    Cuda(Vec<usize>),
    /// Vulkan devices, in a build for tests. Number 0 is the first device, number 1 the one in software.
    #[cfg(feature = "wgpu")]
    Wgpu(Vec<usize>),
}

impl Device {
    /// Parses `cpu`, `cuda:N`, `cuda:N,M` for several GPUs and `cuda:all` for all that the driver lists.
    ///
    /// # Errors
    /// Any other name, or `cuda` in a build without it.
    pub fn parse(name: &str) -> Result<Device> {
        let (kind, numbers) = name.split_once(':').unwrap_or((name, "0"));
        match (kind, numbers) {
            ("cpu", "0") => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            ("cuda", "all") => {
                Ok(Device::Cuda((0..gpus().map_err(|why| anyhow!("device = \"{name}\": {why}"))?.len()).collect()))
            }
            #[cfg(feature = "cuda")]
            ("cuda", numbers) => Ok(Device::Cuda(distinct(name, numbers)?)),
            #[cfg(not(feature = "cuda"))]
            ("cuda", _) => {
                bail!("device = \"{name}\": this program was built without CUDA; build it with `--features cuda`")
            }
            #[cfg(feature = "wgpu")]
            ("wgpu", numbers) => Ok(Device::Wgpu(distinct(name, numbers)?)),
            _ => bail!("device = \"{name}\": it is `cpu`, `cuda:N`, `cuda:N,M` for several GPUs or `cuda:all`"),
        }
    }

    /// Checks that the device is present, and that each of several devices gets some of the `lanes` of a process.
    ///
    /// # Errors
    /// For a GPU, if the driver is missing or has no such device. For Vulkan, if there is no device. For several, if
    /// one of them would have no lane.
    pub fn check(&self, lanes: usize) -> Result<()> {
        let count = match self {
            Device::Cpu => 1,
            #[cfg(feature = "cuda")]
            Device::Cuda(gpus) => {
                gpus.iter().try_for_each(|&index| cuda(index).map(drop))?;
                gpus.len()
            }
            #[cfg(feature = "wgpu")]
            Device::Wgpu(devices) => {
                tempograph_kernels::tensor::vulkan().map_err(|why| anyhow!("device = \"{self}\": {why}"))?;
                devices.len()
            }
        };
        // More processes than lanes are refused when the processes connect. All of them then report that reason.
        if count > lanes.max(1) {
            bail!("device = \"{self}\" names {count} devices, and the plan has {lanes} lanes here to deal out to them");
        }
        Ok(())
    }

    /// The first `count` devices. The host is one device.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(unused_variables, reason = "there is only the host")
    )]
    pub fn first(&self, count: usize) -> Device {
        match self {
            Device::Cpu => Device::Cpu,
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => Device::Cuda((0..count).collect()),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(_) => Device::Wgpu((0..count).collect()),
        }
    }

    /// The number of the GPU, if it is a single one.
    pub fn gpu(&self) -> Option<usize> {
        match self {
            #[cfg(feature = "cuda")]
            Device::Cuda(gpus) if gpus.len() == 1 => Some(gpus[0]),
            _ => None,
        }
    }
}

impl fmt::Display for Device {
    /// Its name in a spec, with the numbers of all GPUs.
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(any(feature = "cuda", feature = "wgpu"))]
        let numbered = |kind: &str, numbers: &[usize]| {
            format!("{kind}:{}", numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
        };
        match self {
            Device::Cpu => to.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Device::Cuda(gpus) => to.write_str(&numbered("cuda", gpus)),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(devices) => to.write_str(&numbered("wgpu", devices)),
        }
    }
}

/// Parses numbers between commas, each once.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn distinct(name: &str, numbers: &str) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for number in numbers.split(',') {
        let number: usize =
            number.parse().with_context(|| format!("device = \"{name}\": \"{number}\" is no number of a device"))?;
        if found.contains(&number) {
            bail!("device = \"{name}\" names {number} twice");
        }
        found.push(number);
    }
    Ok(found)
}

/// The GPU numbered `index`.
///
/// # Errors
/// If the driver is missing or has no such device.
#[cfg(feature = "cuda")]
pub fn cuda(index: usize) -> Result<tempograph_kernels::tensor::CudaDevice> {
    let found = tempograph_kernels::gpus().map_err(anyhow::Error::msg)?;
    if index >= found.len() {
        bail!("device = \"cuda:{index}\", but the driver shows {} GPUs", found.len());
    }
    Ok(tempograph_kernels::tensor::CudaDevice::new(index))
}

/// The Vulkan device numbered `index`.
///
/// # Errors
/// If it is neither 0 nor 1.
#[cfg(feature = "wgpu")]
pub fn wgpu(index: usize) -> Result<tempograph_kernels::tensor::WgpuDevice> {
    use tempograph_kernels::tensor::WgpuDevice;
    match index {
        0 => Ok(WgpuDevice::DefaultDevice),
        1 => Ok(WgpuDevice::Cpu),
        _ => bail!("device = \"wgpu:{index}\": there are 0, which comes first, and 1, in software"),
    }
}

/// Sets rayon to `threads` threads, or one for each core if 0.
///
/// # Errors
/// If the threads cannot be started, or were started before.
pub fn init_thread_pool(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the threads")
}

/// Runs `work` on a thread of the pool. Its parallel loops then need not wake a thread outside the pool, and allocate
/// nothing. This pays where there are many short parallel loops.
pub fn run_on_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Number of threads in the pool.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// List the devices that tensors can be computed on.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  tempograph devices --json
  TEMPOGRAPH_CPU=avx2 tempograph devices        keep to AVX2: of the CPU's instructions, the level named, baseline, avx2 or avx512")]
pub struct DevicesArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `tempograph devices`.
///
/// # Errors
/// Never: a machine without a GPU is no error.
pub fn run(args: &DevicesArgs) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (gpus, best) = (gpus(), SimdLevel::of_processor().to_string());
    if args.json {
        let gpus = gpus.map_or_else(|why| serde_json::json!({ "none": why }), |names| serde_json::json!(names));
        let cpu = serde_json::json!({ "cores": cores, "simd": simd(), "best_simd": best });
        print(format!("{}", serde_json::json!({ "cpu": cpu, "cuda": gpus })))?;
        return Ok(());
    }
    let capped = if simd() == best { String::new() } else { format!(" of {best}, as TEMPOGRAPH_CPU says") };
    print(format!("cpu      {cores} cores, {}{capped}", simd()))?;
    match gpus {
        Ok(names) => names.iter().enumerate().try_for_each(|(index, name)| print(format!("cuda:{index}   {name}"))),
        Err(why) => print(format!("cuda     none: {why}")),
    }
}

#[cfg(feature = "cuda")]
fn gpus() -> Result<Vec<String>, String> {
    tempograph_kernels::gpus()
}

#[cfg(not(feature = "cuda"))]
fn gpus() -> Result<Vec<String>, String> {
    Err("this program was built without the feature `cuda`".into())
}

/// The widest vector instructions that kernels use.
pub(crate) fn simd() -> String {
    // A level that this CPU does not have was refused at the start of the program.
    SimdLevel::chosen().unwrap_or_else(|_| SimdLevel::of_processor()).to_string()
}
