//! The one place where a spec's model is made.

use anyhow::Result;
use tempograph_framework::{Executor, SliceExecutor, SliceModel, Store, TensorExecutor};
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::{AutodiffBackend, CpuTape};
use tempograph_models::{ProgramModule, SliceProgram};
use tempograph_trainers::{Course, Learner};

use crate::setup::device::Device;
use crate::setup::spec::{ExecutorKind, RunSpec};

/// A spec's model with its optimiser.
pub(crate) struct Made {
    pub learner: Learner,
    /// Where it trains and why, if whoever runs it should know.
    pub notice: Option<String>,
}

impl Made {
    /// The learner, after its notice was printed.
    pub fn said(self) -> Learner {
        self.notice.iter().for_each(|notice| eprintln!("{notice}"));
        self.learner
    }
}

/// The spec's model with fresh weights and the executor that is fastest on `device`.
///
/// # Errors
/// A device that is not there, or several where the model trains on one.
pub(crate) fn learner(spec: &RunSpec, course: &Course, device: &Device) -> Result<Made> {
    match device {
        Device::Cpu => {
            let (executor, notice) = on_host(spec, course)?;
            Ok(Made { learner: Learner::new(executor), notice })
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(gpus) => {
            use tempograph_kernels::tensor::{CudaRuntime, CudaTape};
            let place = |&index: &usize| {
                let room = tempograph_kernels::gpu_room(index).map_err(anyhow::Error::msg)?;
                // What is left is for the step's own arrays.
                Ok(Place { device: crate::setup::device::cuda(index)?, room: room / 10 * 7 })
            };
            on_devices::<CudaRuntime, CudaTape>(spec, course, &gpus.iter().map(place).collect::<Result<Vec<_>>>()?)
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu(numbers) => {
            use tempograph_kernels::tensor::{WgpuRuntime, WgpuTape};
            let place = |&number: &usize| Ok(Place { device: crate::setup::device::wgpu(number)?, room: u64::MAX });
            on_devices::<WgpuRuntime, WgpuTape>(spec, course, &numbers.iter().map(place).collect::<Result<Vec<_>>>()?)
        }
    }
}

/// The executor in host memory: on slices, or on Burn's tensors where the spec says so.
fn on_host(spec: &RunSpec, course: &Course) -> Result<(Box<dyn Executor>, Option<String>)> {
    match spec.executor {
        ExecutorKind::Auto => {
            Ok((Box::new(SliceExecutor::new(SliceProgram::new(spec.program(course)?, spec.seed))), None))
        }
        ExecutorKind::Burn => {
            let notice = "trains through Burn's tape, which is several times slower (executor = \"burn\")".into();
            Ok((on_tape::<CpuTape>(spec, course, &Default::default())?, Some(notice)))
        }
    }
}

/// The spec's model with these weights, on slices of host memory.
pub(crate) fn model_with(spec: &RunSpec, course: &Course, weights: Store) -> Result<SliceProgram> {
    let mut model = SliceProgram::new(spec.program(course)?, spec.seed);
    let values = model.parameters().read(weights)?;
    model.parameters_mut().values_mut().copy_from_slice(&values);
    Ok(model)
}

/// A device, and the bytes of it that histories and features may take.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
struct Place<D> {
    device: D,
    room: u64,
}

/// A model that trains on devices and is evaluated on the host. Where kernels on devices do not know the model, it is
/// on the tape.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn on_devices<R, B>(spec: &RunSpec, course: &Course, places: &[Place<R::Device>]) -> Result<Made>
where
    R: tempograph_kernels::tensor::CubeRuntime,
    B: AutodiffBackend<Device = R::Device> + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    use tempograph_framework::{DeviceExecutor, PlacedHistory, Placement, ViewSender};
    use tempograph_models::DeviceProgram;
    use tempograph_trainers::HistoryPlace;

    let program = spec.program(course)?;
    tempograph_kernels::cube::set_products(program.precision().into());
    let history = course.history(program.needs().clone());
    let past = (&history, &course.dataset.log);
    let made = |learner: Learner, placement: Placement| {
        Ok(Made { learner, notice: Some(format!("trains on {}: {placement}", spec.device)) })
    };
    let elsewhere = program.elsewhere();
    let taped = |why: &dyn std::fmt::Display| {
        if let Some(op) = &elsewhere {
            anyhow::bail!("device = \"{}\": an operation from elsewhere ({op}) computes on the CPU", spec.device);
        }
        if places.len() > 1 {
            anyhow::bail!("device = \"{}\": {why}, and through the tape a model trains on one device", spec.device);
        }
        let notice = Some(format!("trains through the tape, with its history in host memory: {why}"));
        Ok(Made { learner: Learner::new(on_tape::<B>(spec, course, &places[0].device)?), notice })
    };
    if spec.executor == ExecutorKind::Burn {
        return taped(&"executor = \"burn\"");
    }
    match spec.parallel.history_place(true) {
        HistoryPlace::Device => {
            let Place { device, room } = &places[0];
            match DeviceProgram::<R, PlacedHistory<R>>::new(program, spec.seed, device, past, *room) {
                Ok(model) => {
                    let placement = model.placement();
                    made(Learner::with_resident(on_host(spec, course)?.0, Box::new(model)), placement)
                }
                Err(why) => taped(&why),
            }
        }
        HistoryPlace::Host => {
            let model = |Place { device, room }: &Place<R::Device>| {
                DeviceProgram::<R, ViewSender<R>>::new(program.clone(), spec.seed, device, past, *room)
            };
            match places.iter().map(model).collect::<Result<Vec<_>, _>>() {
                Ok(models) => {
                    let placement = models[0].placement();
                    let executor = DeviceExecutor::new(models, on_host(spec, course)?.0);
                    made(Learner::new(Box::new(executor)), placement)
                }
                Err(why) => taped(&why),
            }
        }
    }
}

fn on_tape<B>(spec: &RunSpec, course: &Course, device: &B::Device) -> Result<Box<dyn Executor>>
where
    B: AutodiffBackend + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    Ok(Box::new(TensorExecutor::new(ProgramModule::<B>::new(spec.program(course)?, spec.seed, device), device)))
}
