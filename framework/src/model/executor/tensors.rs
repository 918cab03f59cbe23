//! The passes of a model on tensors, whose gradients come from the tape of the tensor library; and a scorer without
//! gradients.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use tempograph_kernels::cpu::Version;
use tempograph_kernels::tensor::{AutodiffBackend, Backend, Tensor};

use crate::model::executor::{Executor, LaneBatch, LaneGradients, LanePool, Scorer, Stopwatch, link_loss, row_loss};
use crate::model::weights::ModulePath;
use crate::weights;
use crate::{Model, Needs, Parameters, Queries, Update, View, values, with_parameters};

/// Held from a forward pass until its gradients are copied, and while weights are put on a tape. The tensor library
/// (burn-autodiff 0.21) keeps the tapes of all threads in one place. Its cleanup after one thread's backward pass can
/// remove a node that another thread is about to use: that gradient would then be missing without an error.
static TAPE: Mutex<()> = Mutex::new(());

/// A model on tensors that only scores: one without weights, or one that was trained elsewhere.
#[derive(Debug)]
pub struct TensorScorer<B, M> {
    model: M,
    scores: Vec<f32>,
    update: Update,
    backend: PhantomData<B>,
}

impl<B: Backend, M: Model<B>> TensorScorer<B, M> {
    /// Scores with `model`.
    pub fn new(model: M) -> TensorScorer<B, M> {
        TensorScorer { model, scores: Vec::new(), update: Update::none(), backend: PhantomData }
    }
}

impl<B: Backend, M: Model<B>> Scorer for TensorScorer<B, M> {
    fn needs(&self) -> Needs {
        self.model.needs()
    }

    fn score(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        let forward = self.model.forward(queries, view, None);
        (self.scores, self.update) = (values(forward.scores), forward.update);
        (&self.scores, &self.update)
    }

    fn advance(&mut self, queries: &Queries, view: &View) -> &Update {
        self.update = self.model.advance(queries, view);
        &self.update
    }
}

/// A model on tensors whose passes are recorded on a tape. Its lanes take turns.
pub struct TensorExecutor<B: AutodiffBackend, M: AutodiffModule<B>> {
    parameters: Parameters,
    /// Has the weights of `version`.
    model: M,
    version: Version,
    /// The same weights without a tape, created at the first scores after the weights changed.
    scorer: Option<TensorScorer<B::InnerBackend, M::InnerModule>>,
    lanes: Vec<(LaneGradients, Update)>,
    device: B::Device,
}

impl<B, M> TensorExecutor<B, M>
where
    B: AutodiffBackend,
    M: Model<B> + AutodiffModule<B>,
    M::InnerModule: Model<B::InnerBackend>,
{
    /// Computes the passes of `model`, whose weights are on `device`.
    pub fn new(model: M, device: &B::Device) -> TensorExecutor<B, M> {
        let parameters = Parameters::from_store(weights::<B, M>(&model))
            .unwrap_or_else(|error| unreachable!("weights are floats: {error}"));
        let lanes = vec![(LaneGradients::zeros(parameters.values().len()), Update::none())];
        TensorExecutor { version: parameters.version(), parameters, model, scorer: None, lanes, device: device.clone() }
    }

    /// The model with the current weights.
    fn refresh(&mut self) {
        if self.version != self.parameters.version() {
            let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
            self.model = with_parameters::<B, M>(self.model.clone(), &self.parameters);
            (self.version, self.scorer) = (self.parameters.version(), None);
        }
    }

    fn scorer(&mut self) -> &mut TensorScorer<B::InnerBackend, M::InnerModule> {
        self.refresh();
        self.scorer.get_or_insert_with(|| TensorScorer::new(self.model.valid()))
    }
}

/// Runs the forward pass and, if the loss is finite, the backward pass.
fn compute<B: AutodiffBackend, M: Model<B> + Module<B>>(
    model: &M,
    parameters: &Parameters,
    batch: &LaneBatch<'_>,
    (computed, update): &mut (LaneGradients, Update),
) {
    let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut clock = Stopwatch::start();
    let forward = model.forward(batch.queries, batch.view, Some(batch.dropout));
    let loss = match (batch.targets, forward.outputs) {
        (Some(targets), Some(outputs)) => row_loss(outputs, targets),
        (Some(_), None) => panic!("targets for roots, of which the model gives no outputs"),
        (None, _) => link_loss(forward.scores, batch.queries.positives()),
    };
    (computed.loss, *update) = (values(loss.clone().detach())[0], forward.update);
    computed.forward_seconds = clock.lap();
    if computed.loss.is_finite() {
        let tape = loss.backward();
        let (share, gradients) = (batch.share, &mut computed.gradients);
        model.visit(&mut Collect::<B> { path: ModulePath::default(), tape: &tape, share, parameters, gradients });
    }
    computed.backward_seconds = clock.lap();
}

/// Copies the gradients of all weights from a tape, times `share`, to the ranges of the weights. Weights without a
/// gradient keep their values there.
struct Collect<'a, B: AutodiffBackend> {
    path: ModulePath,
    tape: &'a B::Gradients,
    share: f32,
    parameters: &'a Parameters,
    gradients: &'a mut [f32],
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_, B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(gradient) = param.val().grad(self.tape) else { return };
        let part = self.parameters.of_module(&self.path);
        for (own, gradient) in self.gradients[part.range.clone()].iter_mut().zip(values(gradient)) {
            *own = self.share * gradient;
        }
    }
}

impl<B: AutodiffBackend, M: AutodiffModule<B>> Drop for TensorExecutor<B, M> {
    /// Waits for the device. Nobody reads the results of the last pass, so its kernels may still be compiling or
    /// running. If the program ends meanwhile, the library of a software device is torn down under its own threads.
    fn drop(&mut self) {
        // A failed device cannot be waited for, and its reader has already reported the error.
        drop(B::sync(&self.device));
    }
}

impl<B, M> Scorer for TensorExecutor<B, M>
where
    B: AutodiffBackend,
    M: Model<B> + AutodiffModule<B>,
    M::InnerModule: Model<B::InnerBackend>,
{
    fn needs(&self) -> Needs {
        self.model.needs()
    }

    fn score(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        self.scorer().score(queries, view)
    }

    fn advance(&mut self, queries: &Queries, view: &View) -> &Update {
        self.scorer().advance(queries, view)
    }
}

impl<B, M> Executor for TensorExecutor<B, M>
where
    B: AutodiffBackend,
    M: Model<B> + AutodiffModule<B>,
    M::InnerModule: Model<B::InnerBackend>,
{
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    fn compute_gradients(&mut self, batches: &[Option<LaneBatch<'_>>], _: &LanePool) {
        self.refresh();
        let TensorExecutor { parameters, model, lanes, .. } = self;
        lanes.resize_with(batches.len().max(lanes.len()), Default::default);
        for (lane, batch) in lanes.iter_mut().zip(batches) {
            lane.0.clear(parameters.values().len());
            if let Some(batch) = batch {
                compute::<B, M>(model, parameters, batch, lane);
            }
        }
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
