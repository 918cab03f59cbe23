//! GPUs of the driver. The driver is loaded on the first call, so a build with the feature also runs on a machine
//! without one.
use cudarc::driver::CudaContext;

/// Names of the GPUs, by index.
///
/// # Errors
/// A sentence that says why there is none: no driver, or the driver's error.
pub fn gpus() -> Result<Vec<String>, String> {
    // SAFETY: this only searches the library; the crate marks it `unsafe` because loading any library runs its
    // initialisers.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err("no CUDA driver (libcuda) is installed".into());
    }
    let said = |error: cudarc::driver::DriverError| format!("the CUDA driver says: {error}");
    let count = CudaContext::device_count().map_err(said)?;
    (0..count as usize).map(|index| CudaContext::new(index).and_then(|context| context.name()).map_err(said)).collect()
}

/// Free memory of the GPU with number `index`, in bytes.
///
/// # Errors
/// A sentence with the driver's error. Call [`gpus`] first to check whether there is a driver.
pub fn gpu_free_bytes(index: usize) -> Result<u64, String> {
    let free = CudaContext::new(index).and_then(|context| context.mem_get_info());
    free.map(|(free, _)| free as u64).map_err(|error| format!("the CUDA driver says: {error}"))
}

/// Memory of the GPU with number `index`, in bytes.
///
/// # Errors
/// A sentence with the driver's error. Call [`gpus`] first to check whether there is a driver.
pub fn gpu_total_bytes(index: usize) -> Result<u64, String> {
    let total = CudaContext::new(index).and_then(|context| context.total_mem());
    total.map(|bytes| bytes as u64).map_err(|error| format!("the CUDA driver says: {error}"))
}
