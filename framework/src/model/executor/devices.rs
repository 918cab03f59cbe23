//! The passes of lanes on devices, from views. The host has histories and weights, and scores.

use crate::model::executor::{Executor, LaneBatch, LaneGradients, LanePool, Scorer, Stopwatch};
use crate::{DeviceGradients, DeviceModel, Needs, Parameters, Queries, Update, View};
use tempograph_kernels::cpu::Version;

/// A model on some devices, and an executor of the same model on the host, which has the weights and scores. Device
/// `l` modulo the number of devices computes lane `l`. Weights go to the devices before a pass and gradients come back
/// after it. The host sums them in the order of the lanes, so the number of devices does not change the result.
pub struct DeviceExecutor<D: DeviceModel> {
    devices: Vec<D>,
    host: Box<dyn Executor>,
    /// The version of the weights that the devices have.
    version: Option<Version>,
    lanes: Vec<(LaneGradients, Update)>,
}

impl<D: DeviceModel> DeviceExecutor<D> {
    /// Computes the lanes of the model of `host` on `devices`, each of which has the same model.
    ///
    /// # Panics
    /// If there is no device.
    pub fn new(devices: Vec<D>, host: Box<dyn Executor>) -> DeviceExecutor<D> {
        assert!(!devices.is_empty(), "an executor on devices has at least one");
        DeviceExecutor { devices, host, version: None, lanes: vec![Default::default()] }
    }
}

fn compute(device: &impl DeviceModel, batch: &LaneBatch<'_>, lane: &mut (LaneGradients, Update)) {
    let (mut clock, LaneBatch { queries, view, dropout, share, observed, .. }) = (Stopwatch::start(), *batch);
    let DeviceGradients { loss, mut gradients, update } =
        device.compute_gradients(queries, view, dropout, observed.as_ref());
    if share != 1.0 {
        gradients.iter_mut().for_each(|gradient| *gradient *= share);
    }
    // The host cannot measure the start of the backward pass: all of the time counts as forward.
    *lane = (LaneGradients { gradients, loss, forward_seconds: clock.lap(), backward_seconds: 0.0 }, update);
}

impl<D: DeviceModel> Scorer for DeviceExecutor<D> {
    fn needs(&self) -> Needs {
        self.host.needs()
    }

    fn score(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        self.host.score(queries, view)
    }

    fn advance(&mut self, queries: &Queries, view: &View) -> &Update {
        self.host.advance(queries, view)
    }
}

impl<D: DeviceModel> Executor for DeviceExecutor<D> {
    fn parameters(&self) -> &Parameters {
        self.host.parameters()
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        self.host.parameters_mut()
    }

    fn compute_gradients(&mut self, batches: &[Option<LaneBatch<'_>>], pool: &LanePool) {
        let DeviceExecutor { devices, host, version, lanes } = self;
        let parameters = host.parameters();
        if *version != Some(parameters.version()) {
            devices.iter_mut().for_each(|device| device.set_parameters(parameters.values()));
            *version = Some(parameters.version());
        }
        let size = parameters.values().len();
        lanes.resize_with(batches.len().max(lanes.len()), Default::default);
        pool.each(lanes.iter_mut().zip(batches).enumerate(), |(i, (lane, batch))| match batch {
            Some(batch) => compute(&devices[i % devices.len()], batch, lane),
            None => lane.0.clear(size),
        });
    }

    fn lane(&self, lane: usize) -> &LaneGradients {
        &self.lanes[lane].0
    }

    fn lane_mut(&mut self, lane: usize) -> &mut LaneGradients {
        &mut self.lanes[lane].0
    }

    fn update(&self, lane: usize) -> &Update {
        &self.lanes[lane].1
    }
}
