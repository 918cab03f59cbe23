//! The passes of a model written by hand on slices of host memory.

use crate::model::executor::{
    Executor, LaneBatch, LaneGradients, LanePool, Scorer, Stopwatch, link_loss_on_slices, row_loss_on_slices,
};
use crate::{ForwardOutput, Needs, Parameters, Queries, SliceModel, Update, View};

/// A [`SliceModel`] and the working memory of its passes. Lanes are computed at the same time, each with its own
/// memory. Once it has seen the largest batch, one lane allocates nothing.
pub struct SliceExecutor<M: SliceModel> {
    model: M,
    /// The first lane is used for scoring, too.
    lanes: Vec<Lane<M>>,
}

struct Lane<M: SliceModel> {
    work: M::Work,
    /// Derivative of the loss in each output of the head: `[P]` scores, or `[R, K]` numbers of roots.
    output_grads: Vec<f32>,
    computed: LaneGradients,
}

impl<M: SliceModel> Lane<M> {
    /// A lane for a model of `size` weights.
    fn new(size: usize) -> Lane<M> {
        Lane { work: M::Work::default(), output_grads: Vec::new(), computed: LaneGradients::zeros(size) }
    }

    /// Runs the forward pass and, if the loss is finite, the backward pass.
    fn compute(&mut self, model: &M, batch: &LaneBatch<'_>) {
        let Lane { work, output_grads, computed } = self;
        let mut clock = Stopwatch::start();
        model.forward(batch.queries, batch.view, Some(batch.dropout), work);
        let ForwardOutput { scores, outputs, .. } = work.as_ref();
        computed.loss = match batch.targets {
            None => link_loss_on_slices(scores, batch.queries.positives(), output_grads),
            Some(targets) => {
                let columns = outputs.len() / batch.queries.len().max(1);
                row_loss_on_slices(outputs, columns, targets, output_grads)
            }
        };
        computed.forward_seconds = clock.lap();
        if computed.loss.is_finite() {
            if batch.share != 1.0 {
                output_grads.iter_mut().for_each(|gradient| *gradient *= batch.share);
            }
            model.backward(batch.queries, batch.view, output_grads, &mut computed.gradients, work);
        }
        computed.backward_seconds = clock.lap();
    }
}

impl<M: SliceModel> SliceExecutor<M> {
    /// Computes the passes of `model`.
    pub fn new(model: M) -> SliceExecutor<M> {
        let size = model.parameters().values().len();
        SliceExecutor { model, lanes: vec![Lane::new(size)] }
    }
}

impl<M: SliceModel> Scorer for SliceExecutor<M> {
    fn needs(&self) -> Needs {
        self.model.needs()
    }

    fn score(&mut self, queries: &Queries, view: &View) -> (&[f32], &Update) {
        let SliceExecutor { model, lanes } = self;
        model.forward(queries, view, None, &mut lanes[0].work);
        let ForwardOutput { scores, update, .. } = lanes[0].work.as_ref();
        (scores, update)
    }

    fn advance(&mut self, queries: &Queries, view: &View) -> &Update {
        let SliceExecutor { model, lanes } = self;
        model.advance(queries, view, &mut lanes[0].work);
        &lanes[0].work.as_ref().update
    }
}

impl<M: SliceModel> Executor for SliceExecutor<M> {
    fn parameters(&self) -> &Parameters {
        self.model.parameters()
    }

    fn parameters_mut(&mut self) -> &mut Parameters {
        self.model.parameters_mut()
    }

    fn compute_gradients(&mut self, batches: &[Option<LaneBatch<'_>>], pool: &LanePool) {
        let SliceExecutor { model, lanes } = self;
        let (model, size) = (&*model, model.parameters().values().len());
        lanes.resize_with(batches.len().max(lanes.len()), || Lane::new(size));
        pool.each(lanes.iter_mut().zip(batches), |(lane, batch)| match batch {
            Some(batch) => lane.compute(model, batch),
            None => lane.computed.clear(size),
        });
    }

    fn lane(&self, lane: usize) -> &LaneGradients {
        &self.lanes[lane].computed
    }

    fn lane_mut(&mut self, lane: usize) -> &mut LaneGradients {
        &mut self.lanes[lane].computed
    }

    fn update(&self, lane: usize) -> &Update {
        &self.lanes[lane].work.as_ref().update
    }
}
