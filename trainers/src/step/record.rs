//! The negatives of a training step, and its measurements.

use tempograph_framework::{Batch, NegativeSampler, NegativesError, NodeId};

use crate::StageTimes;

/// The negatives of a batch, event by event.
#[derive(Default)]
pub(crate) struct SampledNegatives {
    pub nodes: Vec<NodeId>,
    /// Where the negatives of each event begin, and where the last ones end.
    pub offsets: Vec<usize>,
}

impl SampledNegatives {
    /// Draws `each` negatives for every event of `batch`, those of pass `pass` over the log.
    pub fn draw(
        &mut self,
        negatives: &NegativeSampler,
        pass: u32,
        each: usize,
        batch: &Batch<'_>,
    ) -> Result<(), NegativesError> {
        self.nodes.resize(batch.len() * each, NodeId::default());
        for (event, slots) in batch.events().zip(self.nodes.chunks_mut(each)) {
            negatives.fill(pass, event.id, slots)?;
        }
        self.offsets.clear();
        self.offsets.extend((0..=batch.len()).map(|i| i * each));
        Ok(())
    }
}

/// What a step measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepRecord {
    /// Steps taken before it.
    pub step: u64,
    /// Events trained in it, by all lanes of all processes.
    pub events: usize,
    /// Mean loss of positives plus mean loss of negatives.
    pub loss: f64,
    /// Its learning rate.
    pub lr: f64,
    /// Norm of all gradients before clipping.
    pub gradient_norm: f64,
    /// Where the time of this process went.
    pub stages: StageTimes,
}
