//! The one place where a spec's model is made.

use anyhow::Result;
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::{AutodiffBackend, CpuTape};
use tempograph_models::{SliceTgn, Tgn};
use tempograph_trainers::{Course, Direct, Taped, Trainee};

use crate::data;
use crate::device::Device;
use crate::spec::RunSpec;

/// A spec's model in the form in which it trains.
pub(crate) struct Made {
    pub model: Box<dyn Trainee>,
    /// Where it trains and why, if whoever runs it should know.
    pub notice: Option<String>,
}

impl Made {
    /// The model, after its notice was printed.
    pub fn said(self) -> Box<dyn Trainee> {
        self.notice.iter().for_each(|notice| eprintln!("{notice}"));
        self.model
    }
}

/// The spec's model with fresh weights, in the form that is fastest on `device`.
///
/// # Errors
/// A device that is not there, or several where the model trains on one.
pub(crate) fn trainee(spec: &RunSpec, course: &Course, device: &Device) -> Result<Made> {
    match device {
        Device::Cpu => Ok(on_host(spec, course)),
        #[cfg(feature = "cuda")]
        Device::Cuda(gpus) => {
            use tempograph_kernels::tensor::{CudaRuntime, CudaTape};
            let place = |&index: &usize| {
                let room = tempograph_kernels::gpu_room(index).map_err(anyhow::Error::msg)?;
                // What is left is for the step's own arrays.
                Ok(Place { device: crate::device::cuda(index)?, room: room / 10 * 7 })
            };
            on_devices::<CudaRuntime, CudaTape>(spec, course, &gpus.iter().map(place).collect::<Result<Vec<_>>>()?)
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu(numbers) => {
            use tempograph_kernels::tensor::{WgpuRuntime, WgpuTape};
            let place = |&number: &usize| Ok(Place { device: crate::device::wgpu(number)?, room: u64::MAX });
            on_devices::<WgpuRuntime, WgpuTape>(spec, course, &numbers.iter().map(place).collect::<Result<Vec<_>>>()?)
        }
    }
}

fn on_host(spec: &RunSpec, course: &Course) -> Made {
    if let Some(model) = SliceTgn::new(spec.tgn(), data::widths(course), spec.seed) {
        return Made { model: Box::new(Direct::new(model)), notice: None };
    }
    let why =
        |what| format!("trains through the tape, which is several times slower: the kernels on slices know no {what}");
    Made { model: taped::<CpuTape>(spec, course, &Default::default()), notice: spec.tgn().on_slices().err().map(why) }
}

/// A device, and the bytes of it that histories and features may take.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
struct Place<D> {
    device: D,
    room: u64,
}

/// A model that trains on devices and is examined on the host. One lane has its history on the device if that fits; several, and batches made ready
/// ahead, train from views of histories in host memory. Where kernels on devices do not know the model, it is on the tape.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn on_devices<R, B>(spec: &RunSpec, course: &Course, places: &[Place<R::Device>]) -> Result<Made>
where
    R: tempograph_kernels::tensor::CubeRuntime,
    B: AutodiffBackend<Device = R::Device> + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    use tempograph_framework::{PlacedHistory, Placement, ViewSender};
    use tempograph_models::DeviceTgn;
    use tempograph_trainers::{OnDevices, Resident};

    tempograph_kernels::cube::set_products(spec.tgn().precision.into());
    let (history, widths) = (course.history(spec.tgn().needs()), data::widths(course));
    let past = (&history, &course.dataset.log);
    let made = |model: Box<dyn Trainee>, placement: Placement| {
        Ok(Made { model, notice: Some(format!("trains on {}: {placement}", spec.device)) })
    };
    let on_tape = |why: &dyn std::fmt::Display| {
        if places.len() > 1 {
            anyhow::bail!("device = \"{}\": {why}, and through the tape a model trains on one device", spec.device);
        }
        let notice = Some(format!("trains through the tape, with its history in host memory: {why}"));
        Ok(Made { model: taped::<B>(spec, course, &places[0].device), notice })
    };
    if spec.parallel.plan().lanes() == 1 && spec.parallel.prefetch == 0 {
        let Place { device, room } = &places[0];
        return match DeviceTgn::<R, PlacedHistory<R>>::new(spec.tgn(), widths, spec.seed, device, past, *room) {
            Ok(model) => {
                let placement = model.placement();
                made(Box::new(Resident::new(model, on_host(spec, course).model)), placement)
            }
            Err(why) => on_tape(&why),
        };
    }
    let Some(host) = SliceTgn::new(spec.tgn(), widths, spec.seed) else {
        return on_tape(&"the kernels on slices do not know it");
    };
    let model = |Place { device, room }: &Place<R::Device>| {
        DeviceTgn::<R, ViewSender<R>>::new(spec.tgn(), widths, spec.seed, device, past, *room)
    };
    match places.iter().map(model).collect::<Result<Vec<_>, _>>() {
        Ok(models) => {
            let placement = models[0].placement();
            made(Box::new(OnDevices::new(models, Direct::new(host))), placement)
        }
        Err(why) => on_tape(&why),
    }
}

fn taped<B>(spec: &RunSpec, course: &Course, device: &B::Device) -> Box<dyn Trainee>
where
    B: AutodiffBackend + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    Box::new(Taped::new(Tgn::<B>::new(spec.tgn(), data::widths(course), spec.seed, device), device))
}
