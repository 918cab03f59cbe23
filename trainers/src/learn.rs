//! Walking to learn: forward, loss, backward, step.

use std::sync::{Mutex, PoisonError};

use burn::module::AutodiffModule;
use tempograph_framework::{Batch, EventId, History, Model, NegativeSampler, NodeId, PurposeDraw, Queries, Update, View, values};
use tempograph_kernels::TemporalOps;
use tempograph_kernels::tensor::{AutodiffBackend, Backend, Tensor, activation::softplus};

use crate::adam::Adam;
use crate::epoch::{Clock, Stages, Walker};
use crate::{TrainError, TrainSpec};

/// Held from a step's forward pass to its optimiser step. The tensor library (burn-autodiff 0.21) keeps the tapes of all threads in one
/// place, and tidying up after one thread's backward pass can remove a node that another thread is about to build on: its gradient
/// would be missing without a word.
static TAPE: Mutex<()> = Mutex::new(());

/// A walker that trains a model on what it passes.
pub(crate) struct Learner<'a, B: AutodiffBackend, M, F> {
    /// `None` only while a step is being taken.
    pub model: Option<M>,
    pub optimizer: &'a mut Adam<B>,
    pub negatives: &'a NegativeSampler,
    pub dropout: PurposeDraw,
    pub spec: &'a TrainSpec,
    pub epoch: u32,
    pub step: u64,
    pub steps: u64,
    pub last: StepRecord,
    /// Called after each batch.
    pub passed: F,
}

/// What a step measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepRecord {
    /// Steps taken before it.
    pub step: u64,
    /// Events in its batch.
    pub events: usize,
    /// Mean loss of positives plus mean loss of negatives.
    pub loss: f64,
    /// Its learning rate.
    pub lr: f64,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// Where its time went.
    pub stages: Stages,
}

impl<B, M, F> Walker for Learner<'_, B, M, F>
where
    B: AutodiffBackend,
    B::InnerBackend: TemporalOps,
    M: Model<B> + AutodiffModule<B>,
    F: FnMut(&M, &Adam<B>, &History, usize, &StepRecord) -> Result<(), TrainError>,
{
    fn ask(&mut self, batch: &Batch<'_>) -> Result<Queries, TrainError> {
        let each = self.spec.negatives;
        let mut negatives = vec![NodeId::default(); batch.len() * each];
        for (event, slots) in batch.events().zip(negatives.chunks_mut(each)) {
            self.negatives.fill(self.epoch, event.id, slots)?;
        }
        let offsets: Vec<usize> = (0..=batch.len()).map(|i| i * each).collect();
        Ok(Queries::of_batch(batch, &negatives, &offsets))
    }

    fn answer(&mut self, batch: &Batch<'_>, queries: &Queries, view: &View) -> Result<Update, TrainError> {
        let model = self.model.take().unwrap_or_else(|| unreachable!("the model is put back after each step"));
        let seed = self.dropout.at(self.epoch, batch.first.0).next_u64();
        let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clock = Clock::start();
        let forward = model.forward(queries, view, Some(seed));
        let loss = link_loss(forward.scores, queries.positives());
        let value = values(loss.clone().detach())[0];
        self.last.stages.forward = clock.lap();
        if !value.is_finite() {
            return Err(TrainError::Diverged { step: self.step, event: EventId(batch.first.0), loss: value });
        }
        let gradients = loss.backward();
        self.last.stages.backward = clock.lap();
        let lr = self.spec.lr_at(self.step, self.steps);
        let (model, norm) = self.optimizer.step(model, gradients, lr);
        self.last.stages.step = clock.lap();
        self.model = Some(model);
        self.last = StepRecord { step: self.step, events: batch.len(), loss: f64::from(value), lr, gradient_norm: norm, ..self.last };
        self.step += 1;
        Ok(forward.update)
    }

    fn passed(&mut self, history: &History, next: usize, times: &Stages) -> Result<(), TrainError> {
        let own = self.last.stages;
        self.last.stages = Stages { ask: times.ask, view: times.view, observe: times.observe, ..own };
        let model = self.model.as_ref().unwrap_or_else(|| unreachable!("the model is put back after each step"));
        (self.passed)(model, self.optimizer, history, next, &self.last)
    }
}

/// Binary cross-entropy of logits, the positives' mean plus the negatives' mean: `[1]`.
pub fn link_loss<B: Backend>(scores: Tensor<B, 1>, positives: usize) -> Tensor<B, 1> {
    let pairs = scores.dims()[0];
    // -ln sigmoid(x) = softplus(-x), and -ln(1 - sigmoid(x)) = softplus(x).
    let positive = softplus(-scores.clone().narrow(0, 0, positives), 1.0).mean();
    if pairs == positives {
        return positive;
    }
    positive + softplus(scores.narrow(0, positives, pairs - positives), 1.0).mean()
}
