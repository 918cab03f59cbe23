//! The tensor library, as the other crates use it. A change of library starts here.
pub(crate) mod autodiff;
pub(crate) mod flex;
pub(crate) mod kernels;
pub(crate) mod ops;
pub mod reference;

pub use burn::backend::Autodiff;
pub use burn::module::{AutodiffModule, Module};
pub use burn::tensor::backend::{AutodiffBackend, Backend};
pub use burn::tensor::{Bool, ElementConversion, Int, Shape, Tensor, TensorData, TensorPrimitive, activation};

/// Tensors in host memory.
pub type Cpu = burn_flex::Flex;
/// [`Cpu`] with a tape for gradients.
pub type CpuTape = Autodiff<Cpu>;

/// A way to drive devices.
#[cfg(feature = "cube")]
pub use burn_cubecl::CubeRuntime;

/// Tensors on an NVIDIA GPU.
#[cfg(feature = "cuda")]
pub type Cuda = burn_cuda::Cuda<f32, i32>;
/// A GPU by its number.
#[cfg(feature = "cuda")]
pub use burn_cuda::CudaDevice;
/// [`Cuda`] with a tape for gradients.
#[cfg(feature = "cuda")]
pub type CudaTape = Autodiff<Cuda>;
/// The runtime of NVIDIA GPUs.
#[cfg(feature = "cuda")]
pub use cubecl::cuda::CudaRuntime;

/// Tensors on a Vulkan device, also a software device of a processor. The kernels for GPUs are tested on it.
#[cfg(feature = "wgpu")]
pub type Wgpu = burn_wgpu::Wgpu<f32, i32, u32>;
/// A device by its kind and number.
#[cfg(feature = "wgpu")]
pub use burn_wgpu::WgpuDevice;
/// [`Wgpu`] with a tape for gradients.
#[cfg(feature = "wgpu")]
pub type WgpuTape = Autodiff<Wgpu>;
/// The runtime of Vulkan devices.
#[cfg(feature = "wgpu")]
pub use burn_wgpu::WgpuRuntime;

/// Checks that there is a Vulkan device.
///
/// # Errors
/// A sentence that there is none.
#[cfg(feature = "wgpu")]
pub fn vulkan() -> Result<(), &'static str> {
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    // the first use of a device panics if there is none
    let found = *FOUND.get_or_init(|| {
        std::panic::catch_unwind(|| Tensor::<Wgpu, 1>::zeros([1], &Default::default()).into_data()).is_ok()
    });
    if found { Ok(()) } else { Err("there is no Vulkan device") }
}
