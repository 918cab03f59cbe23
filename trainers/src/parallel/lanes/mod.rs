//! The lanes of a plan: histories, the batches begun on them, and one step of all lanes together.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use tempograph_framework::{EventId, History, LaneBatch, LanePool, Scorer, Store, Update};

use crate::divergence::Divergence;
use crate::parallel::batch_builder::{BatchBuilder, DeviceBatch, GlobalBatch, Slot};
use crate::parallel::group::HistoryGroup;
use crate::parallel::layout::{HistoryLocation, Layout};
use crate::parallel::prefetch::{HistoryState, Prefetch};
use crate::plan::{Lane, Plan};
use crate::setup::TrainingRun;
use crate::setup::trace::{Stage, Trace, note};
use crate::step::adam::StepSettings;
use crate::step::learner::{Learner, StepOutput, stages};
use crate::step::record::StepRecord;
use crate::step::walk::LapTimer;
use crate::transport::exchange::Exchange;
use crate::{ParallelSpec, PrefetchReport, StageTimes, TrainError};
use allocate::{AllocatedHistories, allocate_histories};

mod allocate;
mod store;

/// The lanes this process hosts, and the histories they train on.
pub(crate) struct Lanes {
    pub plan: Plan,
    /// Where the histories live.
    pub history_location: HistoryLocation,
    /// Global batches of a pass.
    pub batches: usize,
    builder: Arc<BatchBuilder>,
    /// The lanes of this process, by rank.
    own: Range<usize>,
    /// The processes that share this process's history, where it has only one history and not all of its lanes.
    group: Option<HistoryGroup>,
    /// The first process of this machine.
    pub machine: usize,
    /// Graphs of the log on this machine.
    graphs: usize,
    /// Bytes of the log sorted by node that processes of this machine share.
    sorted: usize,
    pool: LanePool,
    histories: Vec<TrainingHistory>,
    /// The summed gradients of all weights.
    gradients: Vec<f32>,
    ahead: ParallelSpec,
    /// The batches to come: with prefetch, after the first step.
    prefetch: Option<Prefetch>,
    /// The batches to come that a checkpoint held.
    restored: Store,
    /// What the pipeline measured since the epoch began.
    pub prefetched: PrefetchReport,
    trace: Option<Arc<Trace>>,
}

/// A history and what is being trained on it.
struct TrainingHistory {
    /// Its number in the plan.
    number: usize,
    history: History,
    /// `[j]`, by the step they were begun at, modulo `j`.
    begun: Vec<GlobalBatch>,
}

/// Flags that a process sends to the others with its gradients. They are summed over the processes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ControlFlags {
    /// To stop after this step.
    pub stop: bool,
    /// To write a checkpoint after it.
    pub save: bool,
}

impl Lanes {
    /// The lanes of `run` that this process hosts, all histories empty.
    pub fn new(run: &TrainingRun<'_>, learner: &Learner, exchange: &mut dyn Exchange) -> Result<Lanes, TrainError> {
        let plan = run.parallel.plan();
        let batches = plan.batches(run.training_data.split.train.len(), run.train.batch);
        plan.check(batches).map_err(TrainError::Plan)?;
        let needs = learner.needs();
        let layout = run.parallel.layout(exchange.rank(), exchange.world(), run.can_reside(learner));
        let layout = layout.map_err(TrainError::Plan)?;
        let ends = needs.ends;
        let AllocatedHistories { machine, graphs, sorted, group, histories } =
            allocate_histories(run, needs, exchange, &layout)?;
        let Layout { history_location, lanes: own, workers, .. } = layout;
        let builder = Arc::new(BatchBuilder::new(run, plan, batches, own.clone(), ends));
        Ok(Lanes {
            plan,
            history_location,
            batches,
            builder,
            own,
            group,
            machine,
            graphs,
            sorted,
            pool: LanePool::new(workers),
            histories,
            gradients: Vec::new(),
            ahead: run.parallel.clone(),
            prefetch: None,
            restored: Store::default(),
            prefetched: PrefetchReport::default(),
            trace: run.trace.clone(),
        })
    }

    /// The first of this process's histories.
    pub fn history(&self) -> &History {
        &self.histories[0].history
    }

    /// Says what of this process's histories is not finite, if anything.
    pub fn not_finite(&self) -> Option<String> {
        self.histories.iter().find_map(|trained| trained.history.not_finite())
    }

    /// Takes the history out, for a model that trains with it. [Set it](Lanes::set_history) before any other call.
    pub fn take_history(&mut self) -> History {
        self.histories[0].history.take()
    }

    /// Replaces the history.
    pub fn set_history(&mut self, history: History) {
        self.histories[0].history = history;
        self.prefetch = None;
    }

    /// Trains one step with all lanes.
    pub fn step(
        &mut self,
        step: u64,
        learner: &mut Learner,
        exchange: &mut dyn Exchange,
        settings: StepSettings,
        flags: ControlFlags,
    ) -> Result<(StepRecord, ControlFlags), TrainError> {
        let read = self.begin(step, exchange)?;
        let (mut record, flags) = match self.plan.lanes() {
            1 => (self.step_single_lane(step, learner, settings)?, flags),
            _ => self.step_all_lanes(step, learner, exchange, settings, flags)?,
        };
        if let Some(prefetch) = &mut self.prefetch {
            prefetch.wait_for_reads(step, &mut self.prefetched);
        }
        let (mut clock, began) = (LapTimer::start(), Instant::now());
        self.observe(step, learner, exchange)?;
        note(&self.trace, Stage::WriteBack, step, began);
        record.stages.observe = clock.lap();
        (record.stages.ask, record.stages.view) = (read.ask, read.view);
        Ok((record, flags))
    }

    /// Reads the batches that are begun at `step`, for all the sets of negatives they are trained with. Gives the time
    /// it took.
    fn begin(&mut self, step: u64, exchange: &mut dyn Exchange) -> Result<StageTimes, TrainError> {
        self.begin_sweep(step, exchange)?;
        if self.ahead.prefetch == 0 { self.read(step) } else { self.take(step) }
    }

    /// Resets the histories whose next sweep begins at `step`.
    pub fn begin_sweep(&mut self, step: u64, exchange: &mut dyn Exchange) -> Result<(), TrainError> {
        for TrainingHistory { number, history, .. } in &mut self.histories {
            match &self.group {
                _ if !self.plan.position_at(*number, step, self.batches).resets_history() => {}
                Some(group) => group.reset(exchange, history)?,
                None => history.reset(),
            }
        }
        Ok(())
    }

    /// What the one lane of a plan trains at `step`, for a device that has the history.
    pub fn device_batch(&mut self, step: u64) -> Result<DeviceBatch<'_>, TrainError> {
        let Lanes { plan, batches, builder, histories, .. } = self;
        let TrainingHistory { number, begun, .. } = &mut histories[0];
        let slot = Slot { history: *number, position: plan.position_at(*number, step, *batches), set: 0, shard: 0 };
        let input = &mut begun[0].inputs[0];
        builder.form_queries(input, slot)?;
        Ok(DeviceBatch {
            batch: builder.batch(&input.whole),
            queries: &input.queries,
            chance: builder.chance(slot),
            dropout: input.dropout,
        })
    }

    /// Reads the batches on this thread, without prefetch.
    fn read(&mut self, step: u64) -> Result<StageTimes, TrainError> {
        let Lanes { plan, builder, pool, histories, .. } = self;
        let (began, mut clock, at) = (Instant::now(), LapTimer::start(), plan.epoch_lane_at(step));
        let asked = histories.iter_mut().flat_map(|TrainingHistory { number, history, begun }| {
            let history = &*history;
            builder.own_inputs(*number, step, &mut begun[at].inputs).map(move |(input, slot)| (history, input, slot))
        });
        pool.try_each(asked, |(history, input, slot)| {
            let mut clock = LapTimer::start();
            builder.form_queries(input, slot)?;
            input.stages.ask = clock.lap();
            builder.read(history, input, slot);
            input.stages.view = clock.lap();
            Ok::<_, TrainError>(())
        })?;
        note(&self.trace, Stage::Sample, step, began);
        let mut stages = StageTimes::default();
        self.histories.iter().flat_map(|trained| &trained.begun[at].inputs).for_each(|input| stages.add(&input.stages));
        // Lanes read at the same time. So the elapsed time is divided in proportion to the times of the stages.
        let part = clock.lap() / stages.total().max(f64::MIN_POSITIVE);
        Ok(StageTimes { ask: part * stages.ask, view: part * stages.view, ..StageTimes::default() })
    }

    /// Takes the batches from the pipeline.
    fn take(&mut self, step: u64) -> Result<StageTimes, TrainError> {
        let mut clock = LapTimer::start();
        let Lanes { plan, batches, builder, histories, ahead, prefetch, restored, prefetched, trace, .. } = self;
        let now = |TrainingHistory { number, history, .. }: &TrainingHistory| HistoryState {
            position: plan.position_at(*number, step, *batches),
            memories: history.memories().clone(),
        };
        let now: Vec<HistoryState> = histories.iter().map(now).collect();
        let started = prefetch.is_none();
        let prefetch = match prefetch {
            Some(prefetch) => prefetch,
            None => {
                let graphs =
                    histories.iter().map(|trained| (trained.number, trained.history.graph().clone())).collect();
                prefetch.insert(Prefetch::start(ahead, builder.clone(), graphs, step, trace.clone())?)
            }
        };
        let mut ready = prefetch.take(&now, prefetched)?;
        if started {
            prefetch.restore(&mut ready, &mut std::mem::take(restored), &builder.features)?;
        }
        for (trained, begun) in histories.iter_mut().zip(&mut ready.begun) {
            let shown = begun.inputs.iter().find(|input| !input.view.nodes.is_empty());
            prefetched.count(shown.map_or(0, |input| input.view.staleness()));
            std::mem::swap(&mut trained.begun[plan.epoch_lane_at(step)], begun);
        }
        prefetch.recycle(ready);
        Ok(StageTimes { view: clock.lap(), ..StageTimes::default() })
    }

    /// What lane `rank` trains at `step`, one of `trained` batches. Nothing if it trains none.
    fn lane_batch(&self, rank: usize, step: u64, trained: f32) -> Option<LaneBatch<'_>> {
        let turn = self.plan.lane_task(rank, step, self.batches)?;
        let TrainingHistory { begun, .. } = self.histories.iter().find(|trained| trained.number == turn.history)?;
        let input = &begun[self.plan.epoch_lane_at(turn.begun)].inputs[turn.set * self.plan.minibatch + turn.shard];
        let observed = (turn.begun == step && turn.shard == 0).then(|| self.builder.batch(&input.whole));
        (!input.part.is_empty()).then(|| input.lane_batch(trained, observed))
    }

    /// One step of a plan of one lane. Its gradients are applied where they were computed.
    fn step_single_lane(
        &self,
        step: u64,
        learner: &mut Learner,
        settings: StepSettings,
    ) -> Result<StepRecord, TrainError> {
        let Some(batch) = self.lane_batch(0, step, 1.0) else {
            return Ok(StepRecord { step, ..StepRecord::default() });
        };
        let began = Instant::now();
        let output = learner.step(&batch, &settings);
        note(&self.trace, Stage::Compute, step, began);
        let (events, lr) = (batch.queries.positives(), settings.lr);
        let record = output.map(|StepOutput { loss, gradient_norm, stages, .. }| StepRecord {
            step,
            events,
            loss: f64::from(loss),
            lr,
            gradient_norm,
            stages,
        });
        record.map_err(|what| self.diverged(step, what.named(learner.parameters())))
    }

    /// Each lane computes its gradients; one optimiser step is applied to the summed gradients.
    fn step_all_lanes(
        &mut self,
        step: u64,
        learner: &mut Learner,
        exchange: &mut dyn Exchange,
        settings: StepSettings,
        flags: ControlFlags,
    ) -> Result<(StepRecord, ControlFlags), TrainError> {
        let (mut clock, began) = (LapTimer::start(), Instant::now());
        let trained = self.plan.batches_trained_at(step) as f32;
        let batches: Vec<Option<LaneBatch<'_>>> =
            self.own.clone().map(|rank| self.lane_batch(rank, step, trained)).collect();
        learner.compute_gradients(&batches, &self.pool);
        let computing = clock.lap();
        note(&self.trace, Stage::Compute, step, began);
        let began = Instant::now();
        let gathered: Vec<[f32; 4]> =
            batches.iter().enumerate().map(|(lane, batch)| flags.pack(batch, learner.lane(lane).loss, lane)).collect();
        drop(batches);
        let lanes = 0..self.own.len();
        self.gradients.resize(learner.parameters().values().len(), 0.0);
        let of_lanes: Vec<&[f32]> = lanes.clone().map(|lane| &*learner.lane(lane).gradients).collect();
        exchange.all_reduce(&of_lanes, &mut self.gradients)?;
        let mut all = [0.0; 4];
        exchange.all_reduce(&gathered.iter().map(|gathered| &gathered[..]).collect::<Vec<_>>(), &mut all)?;
        let exchanging = clock.lap();
        note(&self.trace, Stage::Exchange, step, began);
        let [loss, events, stop, save] = all;
        if !loss.is_finite() {
            return Err(self.diverged(step, Divergence::Loss(loss)));
        }
        let began = Instant::now();
        let mut times = StageTimes::default();
        lanes.for_each(|lane| times.add(&stages(learner.lane(lane))));
        let part = computing / times.total().max(f64::MIN_POSITIVE);
        (times.forward, times.backward, times.exchange) = (part * times.forward, part * times.backward, exchanging);
        let gradient_norm = learner.apply(&mut self.gradients, &settings);
        let gradient_norm = gradient_norm.map_err(|what| self.diverged(step, what.named(learner.parameters())))?;
        times.step = clock.lap();
        note(&self.trace, Stage::Compute, step, began);
        let (events, loss) = (events as usize, f64::from(loss));
        let record = StepRecord { step, events, loss, lr: settings.lr, gradient_norm, stages: times };
        Ok((record, ControlFlags { stop: stop > 0.0, save: save > 0.0 }))
    }

    /// The error of a training that diverged in step `step`. The caller knows the largest gradient.
    pub(crate) fn diverged(&self, step: u64, what: Divergence) -> TrainError {
        let position = self.plan.position_at(self.histories[0].number, step, self.batches);
        let event = self.builder.events_of(position.batch).start as u64;
        TrainError::Diverged { step, event: EventId(event), what, largest_gradient: 0.0 }
    }

    /// Observes the batches begun at `step`.
    fn observe(&mut self, step: u64, learner: &Learner, exchange: &mut dyn Exchange) -> Result<(), TrainError> {
        let Lanes { plan, batches, builder, own, group, pool, histories, .. } = self;
        let whole = |history| builder.events_of(plan.position_at(history, step, *batches).batch);
        // The lane that begins a batch computes its update: of several shards, the lane of the first.
        let lane = |history| plan.rank(Lane { history, epoch: plan.epoch_lane_at(step), shard: 0 });
        let happen = |TrainingHistory { number, history, .. }: &mut TrainingHistory, update: &Update| {
            Ok::<_, TrainError>(history.observe(&builder.batch(&whole(*number)), update)?)
        };
        match (&mut histories[..], group) {
            ([TrainingHistory { number, history, .. }], Some(group)) => {
                let lane = lane(*number);
                let update = own.contains(&lane).then(|| learner.update(lane - own.start));
                group.observe(exchange, history, &builder.batch(&whole(*number)), lane / own.len(), update)
            }
            ([trained], None) => happen(trained, learner.update(lane(trained.number) - own.start)),
            (histories, _) => {
                let updates: Vec<&Update> =
                    histories.iter().map(|trained| learner.update(lane(trained.number) - own.start)).collect();
                pool.try_each(histories.iter_mut().zip(updates), |(trained, update)| happen(trained, update))
            }
        }
    }
}

impl ControlFlags {
    /// The numbers of lane `lane` to sum: its part of the loss, its events, and in the first lane of a process the
    /// flags.
    fn pack(self, batch: &Option<LaneBatch<'_>>, loss: f32, lane: usize) -> [f32; 4] {
        let wish = |wished: bool| f32::from(u8::from(wished && lane == 0));
        // An f32 counts up to 16 million events a step exactly.
        let [loss, events] = batch.map_or([0.0; 2], |batch| [batch.share * loss, batch.queries.positives() as f32]);
        [loss, events, wish(self.stop), wish(self.save)]
    }
}
