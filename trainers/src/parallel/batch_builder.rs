//! The batches of lanes: queries, negatives and views, built from a position in the plan.

use std::ops::Range;

use tempograph_framework::{
    Batch, Draw, EventLog, Features, Graph, History, LaneBatch, NegativeSampler, NodeId, Purpose, PurposeDraw, Queries,
    View,
};

use crate::plan::{Lane, Plan, PlanPosition};
use crate::setup::TrainingRun;
use crate::step::record::SampledNegatives;
use crate::{StageTimes, TrainError};

/// A global batch that was read.
#[derive(Default)]
pub(crate) struct GlobalBatch {
    pub position: PlanPosition,
    /// One for each (set of negatives, shard), `[j, i]`. Those of lanes that another process hosts stay empty.
    pub inputs: Vec<LaneInput>,
    /// Whether the memories are in the views.
    pub read: bool,
    /// Neighbours that get mail of the batch before this one, if that batch was sampled in the same sweep.
    pub pending: Vec<NodeId>,
}

/// What a lane trains in one step.
#[derive(Default)]
pub(crate) struct LaneInput {
    pub part: Range<usize>,
    pub whole: Range<usize>,
    pub dropout: u64,
    pub drawn: SampledNegatives,
    pub queries: Queries,
    pub view: View,
    /// Time of forming queries and of reading the view.
    pub stages: StageTimes,
}

/// The batch that the one lane of a plan trains in one step, without a view: the device that has the history reads it
/// itself.
pub(crate) struct DeviceBatch<'a> {
    pub batch: Batch<'a>,
    pub queries: &'a Queries,
    /// Draws neighbours.
    pub chance: PurposeDraw,
    /// Seed of the dropout.
    pub dropout: u64,
}

/// Builds the inputs of lanes from their positions in the plan.
pub(crate) struct BatchBuilder {
    pub log: EventLog,
    pub features: Features,
    pub plan: Plan,
    /// Global batches of a pass.
    pub batches: usize,
    /// The lanes of this process, by rank.
    pub own: Range<usize>,
    /// The events trained on.
    train: Range<usize>,
    /// Events of a shard.
    size: usize,
    /// Negatives of an event.
    each: usize,
    /// Whether an update needs the batch's ends as roots.
    ends: bool,
    negatives: NegativeSampler,
    dropout: PurposeDraw,
    sampling: PurposeDraw,
}

/// The position of an input in the plan.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub history: usize,
    pub position: PlanPosition,
    pub set: usize,
    pub shard: usize,
}

impl Slot {
    /// Whether the lane that trains this computes the update of the batch: it begins the batch, with the first shard.
    pub fn computes_update(&self) -> bool {
        (self.set, self.shard) == (0, 0)
    }

    /// The index among the inputs of a batch of `plan`.
    pub fn place(&self, plan: Plan) -> usize {
        self.set * plan.minibatch + self.shard
    }
}

impl GlobalBatch {
    /// A batch with empty inputs for `plan`.
    pub fn allocate(plan: Plan) -> GlobalBatch {
        let inputs = (0..plan.epoch * plan.minibatch).map(|_| LaneInput::default()).collect();
        GlobalBatch { inputs, ..GlobalBatch::default() }
    }
}

impl LaneInput {
    /// The lane's batch in a step that trains `trained` batches in all. `observed` is given where the lane computes the
    /// update of its batch.
    pub fn lane_batch<'a>(&'a self, trained: f32, observed: Option<Batch<'a>>) -> LaneBatch<'a> {
        let share = self.part.len() as f32 / self.whole.len() as f32 / trained;
        LaneBatch { queries: &self.queries, view: &self.view, dropout: self.dropout, share, observed, targets: None }
    }
}

impl BatchBuilder {
    /// A builder for the lanes `own` of `run`. `ends` says whether the model's updates need the ends of the batch as
    /// roots.
    pub fn new(run: &TrainingRun<'_>, plan: Plan, batches: usize, own: Range<usize>, ends: bool) -> BatchBuilder {
        let (training_data, draw) = (run.training_data, Draw::new(run.seed));
        BatchBuilder {
            log: training_data.dataset.log.clone(),
            features: training_data.features.clone(),
            plan,
            batches,
            own,
            train: training_data.split.train.clone(),
            size: run.train.batch,
            each: run.train.negatives,
            ends,
            negatives: NegativeSampler::new(
                training_data.candidates.clone(),
                run.train.negative_rule,
                draw.of(Purpose::Negatives),
            ),
            dropout: draw.of(Purpose::Dropout),
            sampling: draw.of(Purpose::Sampling),
        }
    }

    /// The events of a global batch.
    pub fn events_of(&self, batch: usize) -> Range<usize> {
        let size = self.plan.minibatch * self.size;
        self.train.start + batch * size..self.train.end.min(self.train.start + (batch + 1) * size)
    }

    /// The events `range` as a batch.
    pub fn batch(&self, range: &Range<usize>) -> Batch<'_> {
        self.log.batch(range.clone())
    }

    /// The inputs of this process's lanes among those of the batch that `history` begins at `step`.
    pub fn own_inputs<'b>(
        &self,
        history: usize,
        step: u64,
        begun: &'b mut [LaneInput],
    ) -> impl Iterator<Item = (&'b mut LaneInput, Slot)> + use<'b> {
        let (plan, own) = (self.plan, self.own.clone());
        let (epoch, position) = (plan.epoch_lane_at(step), plan.position_at(history, step, self.batches));
        begun.iter_mut().enumerate().filter_map(move |(i, input)| {
            let (set, shard) = (i / plan.minibatch, i % plan.minibatch);
            let hosted = own.contains(&plan.rank(Lane { history, epoch, shard }));
            hosted.then_some((input, Slot { history, position, set, shard }))
        })
    }

    /// The pass over the log an input belongs to, counted over all histories and sets of negatives. Draws depend on it.
    fn pass(&self, slot: Slot) -> u32 {
        let Plan { epoch, memory, .. } = self.plan;
        ((slot.position.sweep as usize * epoch + slot.set) * memory + slot.history) as u32
    }

    /// Forms the queries of an input. Its view is not read yet.
    pub fn form_queries(&self, input: &mut LaneInput, slot: Slot) -> Result<(), TrainError> {
        let pass = self.pass(slot);
        input.whole = self.events_of(slot.position.batch);
        input.part = part(&input.whole, slot.shard, self.plan.minibatch);
        input.dropout = self.dropout.at(pass, input.part.start as u64).next_u64();
        input.drawn.draw(&self.negatives, pass, self.each, &self.batch(&input.part))?;
        let SampledNegatives { nodes, offsets } = &input.drawn;
        input.queries.set_batch(&self.batch(&input.part), nodes, offsets);
        if self.ends {
            self.set_ends(input, slot);
        }
        Ok(())
    }

    /// Appends the ends of the whole batch as roots where the lane computes its update. Elsewhere there are no ends.
    fn set_ends(&self, input: &mut LaneInput, slot: Slot) {
        if !slot.computes_update() {
            input.queries.clear_ends();
        } else if input.part != input.whole {
            input.queries.append_ends(&self.batch(&input.whole));
        }
    }

    /// Samples the neighbours of an input whose queries are formed.
    pub fn sample(&self, graph: &Graph, input: &mut LaneInput, slot: Slot) {
        // The whole batch is passed for each of its shards: the update covers the whole batch.
        let whole = self.batch(&input.whole);
        graph.sample_into(&input.queries, Some(&whole), self.chance(slot), &mut input.view);
    }

    /// Reads the whole view of an input whose queries are formed.
    pub fn read(&self, history: &History, input: &mut LaneInput, slot: Slot) {
        self.sample(history.graph(), input, slot);
        self.features.show_in(&mut input.view);
        history.memories().read_into(&mut input.view);
    }

    /// The draw for uniform neighbours.
    pub fn chance(&self, slot: Slot) -> PurposeDraw {
        Draw::new(self.sampling.at(self.pass(slot), 0).next_u64()).of(Purpose::Sampling)
    }
}

/// Shard `shard` of `shards` of a batch: sizes differ by one at most, and the first is never empty.
fn part(whole: &Range<usize>, shard: usize, shards: usize) -> Range<usize> {
    let cut = |shard: usize| whole.start + (shard * whole.len()).div_ceil(shards);
    cut(shard)..cut(shard + 1)
}
