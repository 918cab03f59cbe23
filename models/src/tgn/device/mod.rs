//! A TGN on a device: the passes of [`Tgn`], forward and backward, as kernels one after the other. Weights have the names and shapes of [`Tgn`]'s.
//!
//! Differs: with the history on the device roots are not gathered into distinct centres first, so dropout falls on other slots than on the host.
mod decoder;
mod layer;
mod pass;
mod places;

use tempograph_framework::{
    Batch, DeviceModel, EventLog, Gradients, History, Needs, Parameters, PastSource, PlacedHistory, Placement,
    PurposeDraw, Queries, ResidentModel, Update, View, ViewSender, weights,
};
use tempograph_kernels::AdamStep;
use tempograph_kernels::cube::{Arriving, NodeRows, REMEMBERED, Weights};
use tempograph_kernels::tensor::{Cpu, CubeRuntime};

use super::spec::{Embedding, TgnSpec};
use super::{FeatureWidths, Tgn};
use pass::Pass;
use places::Blocks;

/// A [`Tgn`] on a device. `P` is where it gets the past from: a [`PlacedHistory`], with which it trains alone, its optimiser beside it, or a
/// [`ViewSender`], by which several lanes show it views and somebody else has the optimiser.
pub struct DeviceTgn<R: CubeRuntime, P> {
    spec: TgnSpec,
    /// Names and shapes; the numbers are on the device.
    parameters: Parameters,
    weights: Weights<R>,
    blocks: Blocks,
    /// What nodes show beside their memory.
    node_rows: [Option<NodeRows<R>>; 2],
    past: P,
}

/// What kernels for devices do not know that a model reads or keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOnDevice(pub &'static str);

impl std::fmt::Display for NotOnDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kernels on a device know no {}", self.0)
    }
}

/// Says what of `spec` cannot train on a device.
fn check(spec: &TgnSpec) -> Result<(), NotOnDevice> {
    if spec.message != super::Message::Identity {
        return Err(NotOnDevice("message maps (model.message = \"mlp\")"));
    }
    if spec.embedding != Embedding::Attention {
        return Err(NotOnDevice("embeddings but model.embedding = \"attention\""));
    }
    spec.needs().on_device().map_err(NotOnDevice)
}

impl<R: CubeRuntime, P: PastSource<R>> DeviceTgn<R, P> {
    /// A model with fresh weights, the same as [`Tgn::new`] draws from `seed`, for what histories like `history` will see of `log`. `room` are the bytes
    /// of the device that the past and all features may take.
    ///
    /// # Errors
    /// What kernels on devices do not know.
    pub fn new(
        spec: &TgnSpec,
        features: FeatureWidths,
        seed: u64,
        device: &R::Device,
        (history, log): (&History, &EventLog),
        room: u64,
    ) -> Result<Self, NotOnDevice> {
        check(spec)?;
        let host = Tgn::<Cpu>::new(spec, features, seed, &Default::default());
        let parameters =
            Parameters::from_store(weights(&host)).unwrap_or_else(|error| unreachable!("weights are floats: {error}"));
        let columns = [features.node, spec.static_memory.on().map_or(0, |spec| spec.width)];
        let past = P::new(device, history, log, columns, room);
        let node_rows = past.node_rows(device, history, columns);
        let (blocks, layout) = Blocks::of(spec, features, &parameters);
        let mut weights = Weights::new(device, layout);
        weights.set_values(parameters.values());
        Ok(Self { spec: spec.clone(), parameters, weights, blocks, node_rows, past })
    }

    /// Where what it reads is.
    pub fn placement(&self) -> Placement {
        self.past.placement()
    }
}

impl<R: CubeRuntime> ResidentModel for DeviceTgn<R, PlacedHistory<R>> {
    fn needs(&self) -> Needs {
        self.spec.needs()
    }

    fn parameters(&self) -> Parameters {
        let mut parameters = self.parameters.clone();
        parameters.values_mut().copy_from_slice(&self.weights.values());
        parameters
    }

    fn set_parameters(&mut self, values: &[f32]) {
        self.weights.set_values(values);
    }

    fn moments(&self) -> (u64, [Vec<f32>; 2]) {
        self.weights.moments()
    }

    fn set_moments(&mut self, steps: u64, moments: [&[f32]; 2]) {
        self.weights.set_moments(steps, moments);
    }

    fn enter(&mut self, history: History, log: &EventLog) {
        self.past.enter(history, log);
    }

    fn leave(&mut self, log: &EventLog) -> History {
        self.past.leave(log)
    }

    fn train(
        &mut self,
        batch: &Batch<'_>,
        queries: &Queries,
        chance: PurposeDraw,
        dropout: u64,
        step: &AdamStep,
        clip: f32,
    ) {
        let Self { spec, weights, blocks, node_rows, past: history, .. } = self;
        let pass = Pass::at(spec, blocks, weights, node_rows, dropout);
        let past = history.look(queries, batch, chance);
        let updated = pass.update(&past);
        let arriving = history.ask(&past, &updated.memory);
        let embedded = pass.embed(&past, &updated.memory);
        let pairs = history.pairs(queries);
        // told on the host while the device computes what comes before
        let facts = history.facts(queries, batch, chance);
        let loss = pass.back(&past, &updated, &embedded, (&pairs, queries.positives()), facts);
        weights.step(&loss, step, clip);
        history.observe(batch, &past, &updated.memory, arriving);
    }

    fn room(&self) -> usize {
        REMEMBERED - self.weights.recorded()
    }

    fn steps(&self) -> u64 {
        self.weights.steps()
    }

    fn learned(&mut self) -> Vec<[f32; 2]> {
        self.weights.learned().into_iter().map(|step| [step.loss, step.gradient_norm]).collect()
    }
}

impl<R: CubeRuntime> DeviceModel for DeviceTgn<R, ViewSender<R>> {
    fn set_parameters(&mut self, values: &[f32]) {
        self.weights.set_values(values);
    }

    fn compute_gradients(
        &self,
        queries: &Queries,
        view: &View,
        dropout: u64,
        observed: Option<&Batch<'_>>,
    ) -> Gradients {
        let (mut nodes, weights) = (Vec::new(), self.weights.apart());
        observed.into_iter().for_each(|batch| batch.nodes_into(&mut nodes));
        let pass = Pass::at(&self.spec, &self.blocks, &weights, &self.node_rows, dropout);
        let past = self.past.send(view, &nodes);
        let updated = pass.update(&past);
        let arriving = observed.map(|_| past.ask_touched(&updated.memory));
        let embedded = pass.embed(&past, &updated.memory);
        let loss = pass.back(&past, &updated, &embedded, (&view.pair_plan(queries), queries.positives()), &view.pairs);
        let (loss, gradients) = weights.found(&loss);
        Gradients { loss, gradients, update: Update { nodes, memory: arriving.map_or_else(Vec::new, Arriving::wait) } }
    }
}
