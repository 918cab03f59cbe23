//! Which GPUs the driver shows. The driver is loaded when asked: a build with the feature runs on a machine without one.
use cudarc::driver::CudaContext;

/// Names of the GPUs, by number.
///
/// # Errors
/// A sentence that says why there is none: no driver, or what the driver says.
pub fn gpus() -> Result<Vec<String>, String> {
    // SAFETY: only looks for the library; the crate asks for `unsafe` because loading any library runs its initialisers.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err("no CUDA driver (libcuda) is installed".into());
    }
    let said = |error: cudarc::driver::DriverError| format!("the CUDA driver says: {error}");
    let count = CudaContext::device_count().map_err(said)?;
    (0..count as usize).map(|index| CudaContext::new(index).and_then(|context| context.name()).map_err(said)).collect()
}

/// Memory of the GPU numbered `index` that nobody has taken, bytes.
///
/// # Errors
/// A sentence with what the driver says. [`gpus`] tells first whether there is a driver.
pub fn gpu_free_bytes(index: usize) -> Result<u64, String> {
    let free = CudaContext::new(index).and_then(|context| context.mem_get_info());
    free.map(|(free, _)| free as u64).map_err(|error| format!("the CUDA driver says: {error}"))
}

/// Memory of the GPU numbered `index`, bytes.
///
/// # Errors
/// A sentence with what the driver says. [`gpus`] tells first whether there is a driver.
pub fn gpu_total_bytes(index: usize) -> Result<u64, String> {
    let total = CudaContext::new(index).and_then(|context| context.total_mem());
    total.map(|bytes| bytes as u64).map_err(|error| format!("the CUDA driver says: {error}"))
}
