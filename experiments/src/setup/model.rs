//! Builds a spec's model. No other file does.

use anyhow::Result;
use tempograph_framework::{Executor, SliceExecutor, SliceModel, Store, TensorExecutor};
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::{AutodiffBackend, CpuTape};
use tempograph_models::{ProgramModule, SliceProgram};
use tempograph_trainers::{Learner, TrainingData};

use crate::setup::device::Device;
use crate::setup::spec::{ExecutorKind, RunSpec};
use crate::terminal::print::note;

/// A spec's model with its optimiser.
pub(crate) struct BuiltLearner {
    pub learner: Learner,
    /// Where it trains and why, for the user, if it is not the obvious choice.
    pub notice: Option<String>,
}

impl BuiltLearner {
    /// Prints the notice and gives the learner.
    pub fn print_notice(self) -> Learner {
        self.notice.iter().for_each(note);
        self.learner
    }
}

/// The spec's model with fresh weights and the executor that is fastest on `device`.
///
/// # Errors
/// A device that is not present, or several where the model trains on one.
pub(crate) fn build_learner(spec: &RunSpec, training_data: &TrainingData, device: &Device) -> Result<BuiltLearner> {
    match device {
        Device::Cpu => {
            let (executor, notice) = host_executor(spec, training_data)?;
            Ok(BuiltLearner { learner: Learner::new(executor), notice })
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(gpus) => {
            use tempograph_kernels::tensor::{CudaRuntime, CudaTape};
            let place = |&index: &usize| {
                let room = tempograph_kernels::gpu_free_bytes(index).map_err(anyhow::Error::msg)?;
                // What is left is for the step's own arrays.
                Ok(DeviceBudget { device: crate::setup::device::cuda(index)?, room: room / 10 * 7 })
            };
            on_devices::<CudaRuntime, CudaTape>(
                spec,
                training_data,
                &gpus.iter().map(place).collect::<Result<Vec<_>>>()?,
            )
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu(numbers) => {
            use tempograph_kernels::tensor::{WgpuRuntime, WgpuTape};
            let place =
                |&number: &usize| Ok(DeviceBudget { device: crate::setup::device::wgpu(number)?, room: u64::MAX });
            on_devices::<WgpuRuntime, WgpuTape>(
                spec,
                training_data,
                &numbers.iter().map(place).collect::<Result<Vec<_>>>()?,
            )
        }
    }
}

/// The executor in host memory: on slices, or on Burn's tensors if the spec says so.
fn host_executor(spec: &RunSpec, training_data: &TrainingData) -> Result<(Box<dyn Executor>, Option<String>)> {
    match spec.executor {
        ExecutorKind::Auto => {
            Ok((Box::new(SliceExecutor::new(SliceProgram::new(spec.program(training_data)?, spec.seed))), None))
        }
        ExecutorKind::Burn => {
            let notice = "trains through Burn's tape, which is several times slower (executor = \"burn\")".into();
            Ok((tape_executor::<CpuTape>(spec, training_data, &Default::default())?, Some(notice)))
        }
    }
}

/// The spec's model with these weights, on slices of host memory.
pub(crate) fn model_with(spec: &RunSpec, training_data: &TrainingData, weights: Store) -> Result<SliceProgram> {
    let mut model = SliceProgram::new(spec.program(training_data)?, spec.seed);
    let values = model.parameters().read(weights)?;
    model.parameters_mut().values_mut().copy_from_slice(&values);
    Ok(model)
}

/// A device, and the bytes of it that histories and features may take.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
struct DeviceBudget<D> {
    device: D,
    room: u64,
}

/// A model that trains on devices and is evaluated on the host. It uses the tape if the device kernels do not support
/// the model.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn on_devices<R, B>(
    spec: &RunSpec,
    training_data: &TrainingData,
    places: &[DeviceBudget<R::Device>],
) -> Result<BuiltLearner>
where
    R: tempograph_kernels::tensor::CubeRuntime,
    B: AutodiffBackend<Device = R::Device> + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    use tempograph_framework::{DeviceExecutor, DeviceOrHostHistory, HostViewSource, Placement};
    use tempograph_models::DeviceProgram;
    use tempograph_trainers::HistoryLocation;

    let program = spec.program(training_data)?;
    tempograph_kernels::cube::set_product_precision(program.precision().into());
    let history = training_data.history(program.needs().clone());
    let past = (&history, &training_data.dataset.log);
    let made = |learner: Learner, placement: Placement| {
        Ok(BuiltLearner { learner, notice: Some(format!("trains on {}: {placement}", spec.device)) })
    };
    let elsewhere = program.custom_operation();
    let taped = |why: &dyn std::fmt::Display| {
        if let Some(op) = &elsewhere {
            anyhow::bail!("device = \"{}\": an operation from elsewhere ({op}) computes on the CPU", spec.device);
        }
        if places.len() > 1 {
            anyhow::bail!("device = \"{}\": {why}, and through the tape a model trains on one device", spec.device);
        }
        let notice = Some(format!("trains through the tape, with its history in host memory: {why}"));
        Ok(BuiltLearner { learner: Learner::new(tape_executor::<B>(spec, training_data, &places[0].device)?), notice })
    };
    if spec.executor == ExecutorKind::Burn {
        return taped(&"executor = \"burn\"");
    }
    match spec.parallel.history_location(true) {
        HistoryLocation::Device => {
            let DeviceBudget { device, room } = &places[0];
            match DeviceProgram::<R, DeviceOrHostHistory<R>>::new(program, spec.seed, device, past, *room) {
                Ok(model) => {
                    let placement = model.placement();
                    made(Learner::with_resident(host_executor(spec, training_data)?.0, Box::new(model)), placement)
                }
                Err(why) => taped(&why),
            }
        }
        HistoryLocation::Host => {
            let model = |DeviceBudget { device, room }: &DeviceBudget<R::Device>| {
                DeviceProgram::<R, HostViewSource<R>>::new(program.clone(), spec.seed, device, past, *room)
            };
            match places.iter().map(model).collect::<Result<Vec<_>, _>>() {
                Ok(models) => {
                    let placement = models[0].placement();
                    let executor = DeviceExecutor::new(models, host_executor(spec, training_data)?.0);
                    made(Learner::new(Box::new(executor)), placement)
                }
                Err(why) => taped(&why),
            }
        }
    }
}

fn tape_executor<B>(spec: &RunSpec, training_data: &TrainingData, device: &B::Device) -> Result<Box<dyn Executor>>
where
    B: AutodiffBackend + TemporalOps,
    B::InnerBackend: TemporalOps,
{
    Ok(Box::new(TensorExecutor::new(ProgramModule::<B>::new(spec.program(training_data)?, spec.seed, device), device)))
}
