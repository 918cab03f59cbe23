//! The one place where a spec's model is made.

use anyhow::Result;
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::{AutodiffBackend, CpuTape};
use tempograph_models::{SliceTgn, Tgn};
use tempograph_trainers::{Course, Direct, Taped, Trainee};

use crate::data;
use crate::device::Device;
use crate::spec::RunSpec;

/// The spec's model with fresh weights, in the form that is fastest on `device`.
///
/// # Errors
/// A device that is not there.
pub(crate) fn trainee(spec: &RunSpec, course: &Course, device: Device) -> Result<Box<dyn Trainee>> {
    match device {
        Device::Cpu => Ok(on_host(spec, course)),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            use tempograph_kernels::tensor::{CudaRuntime, CudaTape};
            let (device, free) = (crate::device::cuda(index)?, tempograph_kernels::gpu_room(index).map_err(anyhow::Error::msg)?);
            // What is left is for the step's own arrays.
            Ok(on_device::<CudaRuntime, CudaTape>(spec, course, &device, free / 10 * 7))
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu => {
            use tempograph_kernels::tensor::{WgpuRuntime, WgpuTape};
            Ok(on_device::<WgpuRuntime, WgpuTape>(spec, course, &Default::default(), u64::MAX))
        }
    }
}

fn on_host(spec: &RunSpec, course: &Course) -> Box<dyn Trainee> {
    match SliceTgn::new(spec.tgn(), data::widths(course), spec.seed) {
        Some(model) => Box::new(Direct::new(model)),
        None => {
            if let Err(what) = spec.tgn().on_slices() {
                eprintln!("trains through the tape, which is several times slower: the kernels on slices know no {what}");
            }
            taped::<CpuTape>(spec, course, &Default::default())
        }
    }
}

/// A model that trains on a device, with its history there if that fits, and is examined on the host; or, where kernels on devices do not know it, on
/// the tape with views of a history in host memory. `room` are the bytes that history and features may take.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn on_device<R, B>(spec: &RunSpec, course: &Course, device: &R::Device, room: u64) -> Box<dyn Trainee>
where
    R: tempograph_kernels::tensor::CubeRuntime,
    B: AutodiffBackend<Device = R::Device> + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    use tempograph_models::DeviceTgn;
    use tempograph_trainers::Resident;

    tempograph_kernels::cube::set_products(spec.tgn().precision.into());
    if spec.parallel.plan().lanes() > 1 || spec.parallel.prefetch > 0 {
        eprintln!(
            "trains through the tape, with its history in host memory: several lanes, and batches made ready ahead, train from views"
        );
        return taped::<B>(spec, course, device);
    }
    let history = course.history(spec.tgn().needs());
    let model = DeviceTgn::<R>::new(spec.tgn(), data::widths(course), spec.seed, device, (&history, &course.dataset.log), room);
    match model {
        Ok(model) => {
            eprintln!("trains on {}: {}", spec.device, model.placement());
            Box::new(Resident::new(model, on_host(spec, course)))
        }
        Err(why) => {
            eprintln!("trains through the tape, with its history in host memory: {why}");
            taped::<B>(spec, course, device)
        }
    }
}

fn taped<B>(spec: &RunSpec, course: &Course, device: &B::Device) -> Box<dyn Trainee>
where
    B: AutodiffBackend + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    Box::new(Taped::new(Tgn::<B>::new(spec.tgn(), data::widths(course), spec.seed, device), device))
}
