//! An epoch on a device, with the history there: the host forms queries, hands them over, and hears the losses later.

use std::time::Instant;

use tempograph_framework::{EventId, ResidentModel};
use tempograph_kernels::cpu::first_not_finite;

use crate::divergence::{Divergence, NotFinite};
use crate::parallel::lanes::Lanes;
use crate::run::session::{EpochSteps, TrainingSession};
use crate::step::adam::StepSettings;
use crate::step::record::StepRecord;
use crate::{StageTimes, TrainError};

impl TrainingSession<'_> {
    /// As [`train_to_epoch`](TrainingSession::train_to_epoch), with the history on the device. History, weights and moments come
    /// back to the host for a checkpoint, at the end of the epoch, and where the run stops.
    pub(super) fn train_on_device(&mut self, epoch: &EpochSteps) -> Result<bool, TrainError> {
        let last = epoch.steps.end;
        // one that stopped at an epoch's end still has to be examined there
        if self.progress.step < last {
            self.lanes.begin_sweep(self.progress.step, &mut *self.exchange)?;
        }
        while self.progress.step < last && !self.run.is_stopped() {
            self.train_segment_on_device(epoch)?;
            if self.checkpoint_is_due() && self.progress.step < last {
                self.save()?;
            }
        }
        Ok(self.progress.step >= last)
    }

    /// Trains on the device until the end of `epoch`, until stopped, or until a checkpoint is due.
    fn train_segment_on_device(&mut self, epoch: &EpochSteps) -> Result<(), TrainError> {
        let (run, last) = (self.run, epoch.steps.end);
        let log = &run.training_data.dataset.log;
        self.learner.move_to_device(self.lanes.take_history(), log);
        let (mut submitted, mut goes_on) = (SubmittedSteps::none(), true);
        while goes_on {
            let model = self.learner.on_device();
            let mut step = self.progress.step;
            while step < last && model.steps_before_read() > 0 && !run.is_stopped() {
                submitted.submit(step, &mut self.lanes, model, &run.step_settings(step, epoch.of_run))?;
                step += 1;
            }
            for record in submitted.collect_losses(model)? {
                self.record_step(&record, epoch)?;
            }
            goes_on = step < last && !run.is_stopped() && !self.checkpoint_is_due();
        }
        self.lanes.set_history(self.learner.move_to_host(log));
        self.check_moved_weights()
    }

    /// Weights that come back from a device are finite.
    fn check_moved_weights(&self) -> Result<(), TrainError> {
        let parameters = self.learner.parameters();
        let Some(at) = first_not_finite(parameters.values()) else { return Ok(()) };
        let what = NotFinite::Weight { at, value: parameters.values()[at] };
        Err(self.lanes.diverged(self.progress.step.saturating_sub(1), what.named(parameters)))
    }
}

/// Steps that were submitted to a device and whose losses have not been read.
struct SubmittedSteps {
    since: Instant,
    asking: f64,
    /// Step, first event, events, and learning rate.
    steps: Vec<(u64, usize, usize, f64)>,
}

impl SubmittedSteps {
    fn none() -> SubmittedSteps {
        SubmittedSteps { since: Instant::now(), asking: 0.0, steps: Vec::new() }
    }

    /// Asks what step `step` of the one lane asks and hands it to `model`.
    fn submit(
        &mut self,
        step: u64,
        lanes: &mut Lanes,
        model: &mut dyn ResidentModel,
        settings: &StepSettings,
    ) -> Result<(), TrainError> {
        let begun = Instant::now();
        let next = lanes.device_batch(step)?;
        self.asking += begun.elapsed().as_secs_f64();
        let adam = settings.adam(model.steps() + 1);
        model.train(&next.batch, next.queries, next.chance, next.dropout, &adam, settings.clip as f32);
        self.steps.push((step, next.batch.first.index(), next.batch.len(), settings.lr));
        Ok(())
    }

    /// Waits for the steps that were handed over. What they took is shared evenly: all that the device did counts as
    /// its forward pass.
    ///
    /// # Errors
    /// A loss, or a norm of the gradients, that is not finite: the first such. Nothing was learned from that step on.
    fn collect_losses(&mut self, model: &mut dyn ResidentModel) -> Result<Vec<StepRecord>, TrainError> {
        let losses = model.take_losses();
        let count = losses.len().max(1) as f64;
        let (asking, all) = (self.asking, self.since.elapsed().as_secs_f64());
        let stages =
            StageTimes { ask: asking / count, forward: (all - asking).max(0.0) / count, ..StageTimes::default() };
        (self.since, self.asking) = (Instant::now(), 0.0);
        let gathered = self.steps.drain(..).zip(losses).map(|((step, first, events, lr), [loss, norm])| {
            let what = match () {
                () if !loss.is_finite() => Some(Divergence::Loss(loss)),
                () if !norm.is_finite() => Some(Divergence::DeviceNorm(norm)),
                () => None,
            };
            if let Some(what) = what {
                return Err(TrainError::Diverged { step, event: EventId(first as u64), what, largest_gradient: 0.0 });
            }
            Ok(StepRecord { step, events, loss: f64::from(loss), lr, gradient_norm: f64::from(norm), stages })
        });
        gathered.collect()
    }
}
