//! Walking to learn: one step for each batch.

use tempograph_framework::{Batch, EventId, History, NegativeSampler, NodeId, PurposeDraw, Queries, Update, View};

use crate::epoch::{Stages, Walker};
use crate::trainee::{NotFinite, StepSettings, Taken, Trainee};
use crate::{TrainError, TrainSpec};

/// A walker that trains a model on what it passes.
pub(crate) struct Learner<'a, F> {
    pub trainee: &'a mut dyn Trainee,
    pub negatives: &'a NegativeSampler,
    pub dropout: PurposeDraw,
    pub spec: &'a TrainSpec,
    pub epoch: u32,
    pub step: u64,
    pub steps: u64,
    pub last: StepRecord,
    pub drawn: Drawn,
    /// Called after each batch.
    pub passed: F,
}

/// The negatives of a batch, event by event.
#[derive(Default)]
pub(crate) struct Drawn {
    pub nodes: Vec<NodeId>,
    /// Where each event's begin, and where the last one's end.
    pub offsets: Vec<usize>,
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

impl<F> Walker for Learner<'_, F>
where
    F: FnMut(&dyn Trainee, &History, usize, &StepRecord) -> Result<(), TrainError>,
{
    fn ask(&mut self, batch: &Batch<'_>, queries: &mut Queries) -> Result<(), TrainError> {
        let (each, Drawn { nodes, offsets }) = (self.spec.negatives, &mut self.drawn);
        nodes.resize(batch.len() * each, NodeId::default());
        for (event, slots) in batch.events().zip(nodes.chunks_mut(each)) {
            self.negatives.fill(self.epoch, event.id, slots)?;
        }
        offsets.clear();
        offsets.extend((0..=batch.len()).map(|i| i * each));
        queries.ask_batch(batch, nodes, offsets);
        Ok(())
    }

    fn answer(&mut self, batch: &Batch<'_>, queries: &Queries, view: &View) -> Result<&Update, TrainError> {
        let (step, lr) = (self.step, self.spec.lr_at(self.step, self.steps));
        let dropout = self.dropout.at(self.epoch, batch.first.0).next_u64();
        let settings = StepSettings { dropout, lr, weight_decay: self.spec.weight_decay, clip: self.spec.clip };
        let diverged = |NotFinite { loss }| TrainError::Diverged { step, event: EventId(batch.first.0), loss };
        let Taken { loss, gradient_norm, update, stages } = self.trainee.step(queries, view, &settings).map_err(diverged)?;
        self.last = StepRecord { step, events: batch.len(), loss: f64::from(loss), lr, gradient_norm, stages };
        self.step += 1;
        Ok(update)
    }

    fn passed(&mut self, history: &History, next: usize, times: &Stages) -> Result<(), TrainError> {
        let own = self.last.stages;
        self.last.stages = Stages { ask: times.ask, view: times.view, observe: times.observe, ..own };
        (self.passed)(self.trainee, history, next, &self.last)
    }
}
