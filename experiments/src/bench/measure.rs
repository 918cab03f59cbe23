//! One run of Tempograph: a window of training steps, timed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tempograph_framework::Scorer;
use tempograph_trainers::{
    RunFiles, StageTimes, StepRecord, TrainSpec, TrainingObserver, TrainingRun, peak_memory_bytes, warm_up,
};

use crate::bench::numbers::busy::{GpuUtilisation, launches};
use crate::bench::numbers::stats::median;
use crate::setup::allocations::allocations;
use crate::setup::data;
use crate::setup::device;
use crate::setup::device::Device;
use crate::setup::model::build_learner;
use crate::setup::spec::RunSpec;

/// One run's measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measurement {
    pub events_per_second: f64,
    pub seconds: f64,
    pub peak_memory_bytes: u64,
    /// Seconds by stage, by name.
    pub stages: serde_json::Map<String, serde_json::Value>,
    /// Mean and median seconds of a step.
    pub step_seconds: [f64; 2],
    /// Allocations of a step, after the first third of the steps. None if they are not counted.
    pub allocations_per_step: Option<f64>,
    /// Seconds of the events that were observed before, without training.
    pub warm_seconds: f64,
    /// Kernels launched in a step on a device, including moving the history there and back. None on the CPU.
    #[serde(default)]
    pub launches_per_step: Option<f64>,
    /// Share of the time in which the GPU computed, if its driver's tools report it.
    #[serde(default)]
    pub busy: Option<f64>,
}

/// Trains `steps` steps from event `from` on and measures them. Events before it are observed without training.
pub(super) fn once(spec: &RunSpec, steps: usize, from: usize) -> Result<Measurement> {
    device::init_thread_pool(spec.threads)?;
    device::run_on_pool(|| measure(spec, steps, from))
}

fn measure(spec: &RunSpec, steps: usize, from: usize) -> Result<Measurement> {
    let mut spec = spec.clone();
    let mut training_data = data::open(&spec.data)?;
    data::resolve(&mut spec, &mut training_data)?;
    training_data.split.train = from..training_data.split.train.end.min(from + steps * spec.train.batch);
    if training_data.split.train.is_empty() {
        bail!("there is no event {from} to train on");
    }
    let device = Device::parse(&spec.device)?;
    device.check(spec.parallel.plan().lanes())?;
    let mut learner = build_learner(&spec, &training_data, &device)?.print_notice();
    let nowhere = RunFiles { folder: PathBuf::new() };
    let stop = AtomicBool::new(false);
    let train = TrainSpec { checkpoint_minutes: 0.0, ..spec.train.clone() };
    let mut history = training_data.history(learner.needs());
    let begun = Instant::now();
    warm_up(&mut learner, &mut history, &training_data.dataset.log, 0..from, spec.train.batch, &stop)?;
    let warm_seconds = begun.elapsed().as_secs_f64();
    let training = TrainingRun {
        training_data: &training_data,
        train: &train,
        parallel: &spec.parallel,
        eval: &spec.eval,
        seed: spec.seed,
        files: nowhere,
        resume: false,
        stop: &stop,
        trace: None,
    };
    let mut run = Stopwatch::new(training_data.split.train.len().div_ceil(spec.train.batch), device != Device::Cpu);
    let (launched, busy) = (launches(), GpuUtilisation::watch(&device));
    training.train_after(&mut learner, history, &mut run)?;
    let launched = (launches() - launched) as f64 / run.steps.len().max(1) as f64;
    let measured = run.measured(warm_seconds)?;
    Ok(Measurement {
        launches_per_step: (launched > 0.0).then_some(launched),
        busy: busy.and_then(GpuUtilisation::share),
        ..measured
    })
}

/// The largest number of a device's steps whose losses are collected at once.
const HEARD_TOGETHER: usize = 64;

/// Sums the measurements of a run's steps.
struct Stopwatch {
    events: usize,
    stages: StageTimes,
    /// Seconds of each step. Allocated in advance, so that measuring allocates nothing.
    steps: Vec<f64>,
    /// Steps before allocations are counted.
    warm: usize,
    asked: [u64; 2],
    /// Whether time is also counted only from there on: in a device's first steps its kernels are compiled.
    compiles: bool,
}

impl Stopwatch {
    fn new(steps: usize, compiles: bool) -> Stopwatch {
        // A device reports several steps at once, each with their mean time.
        let warm = match compiles {
            true if steps > 2 * HEARD_TOGETHER => HEARD_TOGETHER.max(steps / 3),
            true => (steps / 3).min(steps.saturating_sub(1)),
            false => (steps / 3).max(1),
        };
        Stopwatch {
            events: 0,
            stages: StageTimes::default(),
            steps: Vec::with_capacity(steps),
            warm,
            asked: [0; 2],
            compiles,
        }
    }

    fn measured(&self, warm_seconds: f64) -> Result<Measurement> {
        let serde_json::Value::Object(stages) = serde_json::to_value(self.stages)? else {
            bail!("stages are an object")
        };
        let seconds = self.stages.total();
        let counted = self.steps.len().saturating_sub(self.warm);
        Ok(Measurement {
            events_per_second: self.events as f64 / seconds,
            seconds,
            peak_memory_bytes: peak_memory_bytes(),
            stages,
            step_seconds: [
                seconds / if self.compiles { counted.max(1) } else { self.steps.len() } as f64,
                median(self.steps.iter().copied()).unwrap_or(seconds),
            ],
            allocations_per_step: (counted > 0).then(|| (self.asked[1] - self.asked[0]) as f64 / counted as f64),
            warm_seconds,
            launches_per_step: None,
            busy: None,
        })
    }
}

impl TrainingObserver for Stopwatch {
    fn step(&mut self, _: usize, _: usize, _: usize, record: &StepRecord) {
        if !self.compiles || self.steps.len() >= self.warm {
            self.events += record.events;
            self.stages.add(&record.stages);
        }
        self.steps.push(record.stages.total());
        if self.steps.len() <= self.warm {
            self.asked[0] = allocations();
        }
        self.asked[1] = allocations();
    }
}

/// Measures in a process of its own, so that neither side affects the other's memory.
pub(super) fn in_subprocess(spec: &Path, sets: &[String], steps: usize, from: usize) -> Result<Measurement> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.arg("bench").arg(spec).args(["--once", "--steps", &steps.to_string(), "--from", &from.to_string()]);
    sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let output = command.output()?;
    if !output.status.success() {
        bail!("a measuring run failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
