//! Runs programs on a device: the operations of a program, forward and backward, as kernels one after the other on one
//! stream. Parameters have the same names, shapes and initial numbers as on the host.
//!
//! Differs: with the history on the device, roots are not first gathered into distinct centres, so dropout hits other
//! slots than on the host.
mod pass;

use std::sync::Arc;

use tempograph_framework::{
    Batch, DeviceGradients, DeviceModel, DeviceOrHostHistory, DeviceViewSource, EventLog, History, HostViewSource,
    Needs, Parameters, Placement, PurposeDraw, Queries, ResidentModel, Update, UpdateDownload, View,
};
use tempograph_kernels::AdamStep;
use tempograph_kernels::cube::{DeviceView, MAX_UNREAD_STEPS, NodeRows, TimeBlock, TimeEncoding, Weights};
use tempograph_kernels::tensor::CubeRuntime;

use crate::executor::dispatch::device_stage;
use crate::operation::{DeviceContext, DeviceStage, LayoutBuilder};
use crate::ops::pairs::decoder::DeviceDecoder;
use crate::program::Program;
use pass::Pass;

/// A program with its parameters on a device. `P` provides the past: a [`DeviceOrHostHistory`], with which it trains
/// alone and has its own optimiser, or a [`HostViewSource`], by which several lanes pass it views and their caller has
/// the optimiser.
pub struct DeviceProgram<R: CubeRuntime, P> {
    compiled: CompiledProgram<R>,
    /// Names and shapes; the numbers are on the device.
    parameters: Parameters,
    weights: Weights<R>,
    past: P,
}

/// A program whose operations hold the positions of their parameters.
struct CompiledProgram<R: CubeRuntime> {
    program: Arc<Program>,
    times: Vec<TimeBlock>,
    /// One stage per step.
    stages: Vec<Box<dyn DeviceStage<R>>>,
    decoder: DeviceDecoder,
    /// Features and static memory of the nodes.
    node_rows: [Option<NodeRows<R>>; 2],
}

impl Program {
    /// Columns of the features and of the static memory of nodes.
    fn node_columns(&self) -> [usize; 2] {
        self.node_rows().map(|rows| rows.columns()).unwrap_or_default()
    }
}

impl<R: CubeRuntime, P: DeviceViewSource<R>> DeviceProgram<R, P> {
    /// `program` with initial parameters, the same as [`SliceProgram`](crate::SliceProgram) draws from `seed`, for
    /// histories like `history` over `log`. `room` is the number of bytes of the device that the past and all features
    /// may use.
    ///
    /// # Errors
    /// [What cannot run on a device](Program::check_device_support).
    pub fn new(
        program: Arc<Program>,
        seed: u64,
        device: &R::Device,
        (history, log): (&History, &EventLog),
        room: u64,
    ) -> Result<Self, String> {
        program.check_device_support()?;
        let (parameters, columns) = (program.declarations.initial_parameters(seed), program.node_columns());
        let past = P::new(device, history, log, columns, room);
        let node_rows = past.node_rows(device, history, columns);
        let mut layout_builder = LayoutBuilder::new(&program.declarations, &program.layout);
        let stages = program.steps.iter().map(|step| device_stage(step, &mut layout_builder)).collect();
        let decoder = DeviceDecoder::allocate(program.links()?, &mut layout_builder);
        let (layout, times) = layout_builder.finish();
        let mut weights = Weights::new(device, layout);
        weights.set_values(parameters.values());
        Ok(Self { compiled: CompiledProgram { program, times, stages, decoder, node_rows }, parameters, weights, past })
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.compiled.program
    }

    /// Where the past and the features are.
    pub fn placement(&self) -> Placement {
        self.past.placement()
    }
}

impl<R: CubeRuntime> CompiledProgram<R> {
    /// The time encodings with these weights.
    fn times(&self, weights: &Weights<R>) -> Vec<TimeEncoding<R>> {
        self.times.iter().map(|&block| TimeEncoding::at(weights, block)).collect()
    }

    fn context<'a>(
        &'a self,
        weights: &'a Weights<R>,
        (past, times): (&'a DeviceView<R>, &'a [TimeEncoding<R>]),
        dropout: u64,
    ) -> DeviceContext<'a, R> {
        DeviceContext { weights, past, node_rows: &self.node_rows, times, dropout: Some(dropout) }
    }
}

impl<R: CubeRuntime> ResidentModel for DeviceProgram<R, DeviceOrHostHistory<R>> {
    fn needs(&self) -> Needs {
        self.compiled.program.needs.clone()
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

    fn load_history(&mut self, history: History, log: &EventLog) {
        self.past.enter(history, log);
    }

    fn take_history(&mut self, log: &EventLog) -> History {
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
        let Self { compiled, weights, past: history, .. } = self;
        let past = history.look(queries, batch, chance);
        let times = compiled.times(weights);
        let mut pass = Pass::new(compiled, compiled.context(weights, (&past, &times), dropout));
        let (memory, said) = pass.update(queries);
        let arriving = history.ask(&past, &memory, said.as_ref());
        pass.embed();
        let pairs = history.pairs(queries);
        // computed on the host while the device computes the earlier steps
        let facts = history.facts(queries, batch, chance);
        let loss = pass.backward((&pairs, queries.positives()), facts);
        weights.step(&loss, step, clip);
        history.observe(batch, &past, (&memory, said.as_ref()), arriving);
    }

    fn steps_before_read(&self) -> usize {
        MAX_UNREAD_STEPS - self.weights.recorded()
    }

    fn steps(&self) -> u64 {
        self.weights.steps()
    }

    fn take_losses(&mut self) -> Vec<[f32; 2]> {
        self.weights.take_step_records().into_iter().map(|step| [step.loss, step.gradient_norm]).collect()
    }
}

impl<R: CubeRuntime> DeviceModel for DeviceProgram<R, HostViewSource<R>> {
    fn set_parameters(&mut self, values: &[f32]) {
        self.weights.set_values(values);
    }

    fn compute_gradients(
        &self,
        queries: &Queries,
        view: &View,
        dropout: u64,
        observed: Option<&Batch<'_>>,
    ) -> DeviceGradients {
        let (mut nodes, weights) = (Vec::new(), self.weights.with_own_gradients());
        observed.into_iter().for_each(|batch| batch.nodes_into(&mut nodes));
        let past = self.past.send(queries, view, &nodes);
        let times = self.compiled.times(&weights);
        let mut pass = Pass::new(&self.compiled, self.compiled.context(&weights, (&past, &times), dropout));
        let (memory, said) = pass.update(queries);
        let arriving = observed.map(|_| UpdateDownload::ask(&past, &memory, said.as_ref()));
        pass.embed();
        let loss = pass.backward((&view.pair_plan(queries), queries.positives()), &view.pairs);
        let (loss, gradients) = weights.read_gradients(&loss);
        DeviceGradients { loss, gradients, update: arriving.map_or_else(Update::none, |arriving| arriving.wait(nodes)) }
    }
}
