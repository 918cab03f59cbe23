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
        Device::Cpu => Ok(match SliceTgn::new(spec.tgn(), data::widths(course), spec.seed) {
            Some(model) => Box::new(Direct::new(model)),
            None => taped::<CpuTape>(spec, course, &Default::default()),
        }),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => Ok(taped::<tempograph_kernels::tensor::CudaTape>(spec, course, &crate::device::cuda(index)?)),
    }
}

fn taped<B>(spec: &RunSpec, course: &Course, device: &B::Device) -> Box<dyn Trainee>
where
    B: AutodiffBackend + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    Box::new(Taped::new(Tgn::<B>::new(spec.tgn(), data::widths(course), spec.seed, device), device))
}
