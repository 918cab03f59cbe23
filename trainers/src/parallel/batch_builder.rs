//! The batches of lanes: queries, negatives and views, made of a place in the plan.

use std::ops::Range;

use tempograph_framework::{
    Batch, Draw, EventLog, Features, Graph, History, LaneBatch, NegativeSampler, NodeId, Purpose, PurposeDraw, Queries,
    View,
};

use crate::plan::{Lane, Plan, Stand};
use crate::setup::Fit;
use crate::step::record::Drawn;
use crate::{Stages, TrainError};

/// A global batch that was read.
#[derive(Default)]
pub(crate) struct Begun {
    pub stand: Stand,
    /// One for each (set of negatives, shard), `[j, i]`; those of lanes that another process hosts stay empty.
    pub inputs: Vec<LaneInput>,
    /// Whether the views show memories.
    pub read: bool,
    /// Neighbours that got mail of the batch before this one, if that was sampled in the same sweep.
    pub pending: Vec<NodeId>,
}

/// What a lane trains in one step.
#[derive(Default)]
pub(crate) struct LaneInput {
    pub part: Range<usize>,
    pub whole: Range<usize>,
    pub dropout: u64,
    pub drawn: Drawn,
    pub queries: Queries,
    pub view: View,
    /// Time of forming queries and of reading the view.
    pub stages: Stages,
}

/// What the one lane of a plan trains in one step, without a view: the device that has the history reads the past
/// itself.
pub(crate) struct DeviceBatch<'a> {
    pub batch: Batch<'a>,
    pub queries: &'a Queries,
    /// Draws neighbours.
    pub chance: PurposeDraw,
    /// Seed of the dropout.
    pub dropout: u64,
}

/// Makes the inputs of lanes from their places in the plan.
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

/// Where an input stands in the plan.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub history: usize,
    pub stand: Stand,
    pub set: usize,
    pub shard: usize,
}

impl Slot {
    /// Whether the lane that trains this computes the update of the batch: it begins the batch, with the first shard.
    pub fn says_update(&self) -> bool {
        (self.set, self.shard) == (0, 0)
    }

    /// The place among the inputs of a batch of `plan`.
    pub fn place(&self, plan: Plan) -> usize {
        self.set * plan.minibatch + self.shard
    }
}

impl Begun {
    /// Room for the inputs of a batch of `plan`.
    pub fn room(plan: Plan) -> Begun {
        let inputs = (0..plan.epoch * plan.minibatch).map(|_| LaneInput::default()).collect();
        Begun { inputs, ..Begun::default() }
    }
}

impl LaneInput {
    /// What the lane trains, where `trained` batches are trained in all. `observed` is given where the lane computes
    /// the update of its batch.
    pub fn lane_batch<'a>(&'a self, trained: f32, observed: Option<Batch<'a>>) -> LaneBatch<'a> {
        let share = self.part.len() as f32 / self.whole.len() as f32 / trained;
        LaneBatch { queries: &self.queries, view: &self.view, dropout: self.dropout, share, observed }
    }
}

impl BatchBuilder {
    /// Those of `fit` for the lanes `own`, of a model whose updates need the batch's `ends` as roots, or do not.
    pub fn new(fit: &Fit<'_>, plan: Plan, batches: usize, own: Range<usize>, ends: bool) -> BatchBuilder {
        let (course, draw) = (fit.course, Draw::new(fit.seed));
        BatchBuilder {
            log: course.dataset.log.clone(),
            features: course.features.clone(),
            plan,
            batches,
            own,
            train: course.split.train.clone(),
            size: fit.train.batch,
            each: fit.train.negatives,
            ends,
            negatives: NegativeSampler::new(
                course.candidates.clone(),
                fit.train.negative_rule,
                draw.of(Purpose::Negatives),
            ),
            dropout: draw.of(Purpose::Dropout),
            sampling: draw.of(Purpose::Sampling),
        }
    }

    /// The events of a global batch.
    pub fn whole(&self, batch: usize) -> Range<usize> {
        let size = self.plan.minibatch * self.size;
        self.train.start + batch * size..self.train.end.min(self.train.start + (batch + 1) * size)
    }

    /// Consecutive events.
    pub fn batch(&self, range: &Range<usize>) -> Batch<'_> {
        self.log.batch(range.clone())
    }

    /// The inputs of this process's lanes among those of the batch that `history` begins at `step`.
    pub fn of<'b>(
        &self,
        history: usize,
        step: u64,
        begun: &'b mut [LaneInput],
    ) -> impl Iterator<Item = (&'b mut LaneInput, Slot)> + use<'b> {
        let (plan, own) = (self.plan, self.own.clone());
        let (epoch, stand) = (plan.begins_lane(step), plan.begins(history, step, self.batches));
        begun.iter_mut().enumerate().filter_map(move |(i, input)| {
            let (set, shard) = (i / plan.minibatch, i % plan.minibatch);
            let hosted = own.contains(&plan.rank(Lane { history, epoch, shard }));
            hosted.then_some((input, Slot { history, stand, set, shard }))
        })
    }

    /// The pass over the log an input belongs to, counted over all histories and sets of negatives. Draws depend on it.
    fn pass(&self, slot: Slot) -> u32 {
        let Plan { epoch, memory, .. } = self.plan;
        ((slot.stand.sweep as usize * epoch + slot.set) * memory + slot.history) as u32
    }

    /// Forms an input; its view is still to be read.
    pub fn form(&self, input: &mut LaneInput, slot: Slot) -> Result<(), TrainError> {
        let pass = self.pass(slot);
        input.whole = self.whole(slot.stand.batch);
        input.part = part(&input.whole, slot.shard, self.plan.minibatch);
        input.dropout = self.dropout.at(pass, input.part.start as u64).next_u64();
        input.drawn.draw(&self.negatives, pass, self.each, &self.batch(&input.part))?;
        let Drawn { nodes, offsets } = &input.drawn;
        input.queries.ask_batch(&self.batch(&input.part), nodes, offsets);
        if self.ends {
            self.ask_ends(input, slot);
        }
        Ok(())
    }

    /// Asks about the ends of the whole batch where the lane computes its update; elsewhere about none.
    fn ask_ends(&self, input: &mut LaneInput, slot: Slot) {
        if !slot.says_update() {
            input.queries.without_ends();
        } else if input.part != input.whole {
            input.queries.append_ends(&self.batch(&input.whole));
        }
    }

    /// Looks up what an input that was formed shows of the neighbourhood.
    pub fn sample(&self, graph: &Graph, input: &mut LaneInput, slot: Slot) {
        // The whole batch is in sight of each of its shards, so that each says what observing it will write.
        let whole = self.batch(&input.whole);
        graph.sample_into(&input.queries, Some(&whole), self.chance(slot), &mut input.view);
    }

    /// Reads the whole past of an input that was formed.
    pub fn read(&self, history: &History, input: &mut LaneInput, slot: Slot) {
        self.sample(history.graph(), input, slot);
        self.features.show_in(&mut input.view);
        history.memories().read_into(&mut input.view);
    }

    /// What draws uniform neighbours.
    pub fn chance(&self, slot: Slot) -> PurposeDraw {
        Draw::new(self.sampling.at(self.pass(slot), 0).next_u64()).of(Purpose::Sampling)
    }
}

/// Shard `shard` of `shards` of a batch: sizes differ by one at most, and the first is never empty.
fn part(whole: &Range<usize>, shard: usize, shards: usize) -> Range<usize> {
    let cut = |shard: usize| whole.start + (shard * whole.len()).div_ceil(shards);
    cut(shard)..cut(shard + 1)
}
