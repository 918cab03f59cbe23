//! Where tensors live and how many threads compute.

use anyhow::{Context, Result, bail};
use clap::Args;

/// A place tensors can live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Host memory, computed by this process's threads.
    Cpu,
    /// An NVIDIA GPU by its number.
    #[cfg(feature = "cuda")]
    Cuda(usize),
    /// The Vulkan device that comes first, in a build for tests.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

impl Device {
    /// Reads `cpu` or `cuda:N`.
    ///
    /// # Errors
    /// Any other name, or `cuda` in a build without it.
    pub fn parse(name: &str) -> Result<Device> {
        match name.split_once(':').unwrap_or((name, "0")) {
            ("cpu", "0") => Ok(Device::Cpu),
            #[cfg(feature = "cuda")]
            ("cuda", index) => Ok(Device::Cuda(index.parse().with_context(|| format!("device = \"{name}\""))?)),
            #[cfg(not(feature = "cuda"))]
            ("cuda", _) => bail!("device = \"{name}\": this program was built without CUDA; build it with `--features cuda`"),
            #[cfg(feature = "wgpu")]
            ("wgpu", "0") => Ok(Device::Wgpu),
            _ => bail!("device = \"{name}\": it is `cpu` or `cuda:N`"),
        }
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// For a GPU, if the driver is not there or has no such device.
    pub fn check(self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => cuda(index).map(|_| ()),
            #[cfg(feature = "wgpu")]
            Device::Wgpu => Ok(()),
        }
    }
}

/// The GPU numbered `index`.
///
/// # Errors
/// If the driver is not there or has no such device.
#[cfg(feature = "cuda")]
pub fn cuda(index: usize) -> Result<tempograph_kernels::tensor::CudaDevice> {
    let found = tempograph_kernels::gpus().map_err(anyhow::Error::msg)?;
    if index >= found.len() {
        bail!("device = \"cuda:{index}\", but the driver shows {} GPUs", found.len());
    }
    Ok(tempograph_kernels::tensor::CudaDevice::new(index))
}

/// Makes rayon use `threads` threads, or one for each core if 0.
///
/// # Errors
/// If the threads cannot be started, or were already.
pub fn use_threads(threads: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the threads")
}

/// Does `work` on one of the threads that compute. What it hands to the others then needs no waking of a thread that waits outside, and
/// no memory: worth it where there are many short parallel loops.
pub fn on_a_computing_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Threads that compute.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Show what tensors can be computed on here.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  tempograph devices --json")]
pub struct DevicesArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `tempograph devices`.
///
/// # Errors
/// Never: a machine without a GPU is no error.
pub fn run(args: &DevicesArgs) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let gpus = gpus();
    if args.json {
        let gpus = gpus.map_or_else(|why| serde_json::json!({ "none": why }), |names| serde_json::json!(names));
        println!("{}", serde_json::json!({ "cpu": { "cores": cores, "simd": simd() }, "cuda": gpus }));
        return Ok(());
    }
    println!("cpu      {cores} cores, {}", simd());
    match gpus {
        Ok(names) => names.iter().enumerate().for_each(|(index, name)| println!("cuda:{index}   {name}")),
        Err(why) => println!("cuda     none: {why}"),
    }
    Ok(())
}

#[cfg(feature = "cuda")]
fn gpus() -> Result<Vec<String>, String> {
    tempograph_kernels::gpus()
}

#[cfg(not(feature = "cuda"))]
fn gpus() -> Result<Vec<String>, String> {
    Err("this program was built without the feature `cuda`".into())
}

/// The widest vector instructions kernels are dispatched to.
pub(crate) fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2";
        }
    }
    "baseline vector instructions"
}
