//! Who trains what, when: i x j x k parallelism as a pure function.
//!
//! Source: Zhou et al., "DistTGL: Distributed Memory-Based Temporal Graph Neural Network Training", SC 2023, section
//! 3.2.
pub(crate) mod propose;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod timetable;

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// How many trainers share the work, in three ways: `i` cut one batch, `j` train `j` batches on one history, `k` have a
/// history each.
///
/// The timetable. A *global batch* is `i` batches; a pass over the log has `n` of them. At step `t`, history `h` is at
/// global batch `(h n / k + t) mod n`. It is reset when it comes to batch 0. That batch is *begun*: epoch lane `t mod
/// j` reads it, and trains it in the steps `t .. t + j`, each time against other negatives. The other lanes train the
/// batches begun before. The batch is observed once, at the end of step `t`.
///
/// ```
/// use tempograph_trainers::{Plan, LaneTask};
///
/// let plan = Plan { minibatch: 1, epoch: 2, memory: 1 };
/// // Two lanes on one history: lane 0 trains batch 4 a second time while lane 1 begins batch 5.
/// assert_eq!(plan.lane_task(0, 5, 10), Some(LaneTask { history: 0, sweep: 0, batch: 4, set: 1, shard: 0, begun: 4 }));
/// assert_eq!(plan.lane_task(1, 5, 10), Some(LaneTask { history: 0, sweep: 0, batch: 5, set: 0, shard: 0, begun: 5 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// `i`: shards of a global batch, each read from the history as it was before the whole batch.
    pub minibatch: usize,
    /// `j`: lanes on one history, and sets of negatives each batch is trained with.
    pub epoch: usize,
    /// `k`: histories at different positions in the log.
    pub memory: usize,
}

/// What one lane does in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneTask {
    /// The history its batch was read from.
    pub history: usize,
    /// How often that history had been reset when the batch was read.
    pub sweep: u64,
    /// The global batch, counted from the start of the log.
    pub batch: usize,
    /// Which set of negatives, `0..j`. Set 0 is the one whose update is observed.
    pub set: usize,
    /// Which part of the batch, `0..i`.
    pub shard: usize,
    /// The step the batch was begun at.
    pub begun: u64,
}

/// The position of a lane in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Its history, `0..k`.
    pub history: usize,
    /// Its epoch lane in the history, `0..j`.
    pub epoch: usize,
    /// Its part of each global batch, `0..i`.
    pub shard: usize,
}

/// The position of a history in the plan: its sweep and its global batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlanPosition {
    /// How often the history has been reset.
    pub sweep: u64,
    /// The global batch, counted from the start of the log.
    pub batch: usize,
}

impl PlanPosition {
    /// Whether the history is reset before the batch is read.
    pub fn resets_history(&self) -> bool {
        self.batch == 0 && self.sweep > 0
    }
}

impl Plan {
    /// One trainer.
    pub const ONE: Plan = Plan { minibatch: 1, epoch: 1, memory: 1 };

    /// Trainers, `i j k`.
    pub fn lanes(&self) -> usize {
        self.minibatch * self.epoch * self.memory
    }

    /// Lane number `rank`: shards next to each other, then epoch lanes, then histories.
    pub fn lane(&self, rank: usize) -> Lane {
        let (rest, shard) = (rank / self.minibatch, rank % self.minibatch);
        Lane { history: rest / self.epoch, epoch: rest % self.epoch, shard }
    }

    /// The number of a lane.
    pub fn rank(&self, lane: Lane) -> usize {
        (lane.history * self.epoch + lane.epoch) * self.minibatch + lane.shard
    }

    /// Global batches of one pass over `events` events in batches of `batch`.
    pub fn batches(&self, events: usize, batch: usize) -> usize {
        events.div_ceil(self.minibatch * batch)
    }

    /// The batch that history `history` begins at `step`.
    pub fn position_at(&self, history: usize, step: u64, batches: usize) -> PlanPosition {
        let place = (history * batches / self.memory) as u64 + step;
        PlanPosition { sweep: place / batches as u64, batch: (place % batches as u64) as usize }
    }

    /// The epoch lane that begins a batch at `step`.
    pub fn epoch_lane_at(&self, step: u64) -> usize {
        (step % self.epoch as u64) as usize
    }

    /// What lane `rank` trains at `step`; nothing in the first steps of a lane that has begun no batch yet.
    pub fn lane_task(&self, rank: usize, step: u64, batches: usize) -> Option<LaneTask> {
        let lane = self.lane(rank);
        let j = self.epoch as u64;
        let set = (step % j + j - lane.epoch as u64) % j;
        let begun = step.checked_sub(set)?;
        let PlanPosition { sweep, batch } = self.position_at(lane.history, begun, batches);
        Some(LaneTask { history: lane.history, sweep, batch, set: set as usize, shard: lane.shard, begun })
    }

    /// Batches, each with one set of negatives, that are trained at `step` by all lanes together.
    pub fn batches_trained_at(&self, step: u64) -> usize {
        self.memory * self.epoch.min(usize::try_from(step).unwrap_or(usize::MAX).saturating_add(1))
    }

    /// Passes of one trainer over the log that equal one pass of every history: `j k`, since each of `k` histories is
    /// trained with `j` sets of negatives.
    pub fn passes(&self) -> usize {
        self.epoch * self.memory
    }

    /// Steps after which as many (batch, negatives) pairs were begun as one trainer trains in `passes` passes over the
    /// log.
    pub fn steps(&self, passes: usize, batches: usize) -> u64 {
        ((passes * batches) as u64).div_ceil(self.passes() as u64)
    }

    /// The lanes that process `rank` of `world` hosts.
    ///
    /// # Errors
    /// A sentence if the lanes cannot be divided evenly, or if a history would be shared by processes that also have
    /// others.
    pub fn lanes_of_process(&self, rank: usize, world: usize) -> Result<Range<usize>, String> {
        let Plan { minibatch, epoch, memory } = self;
        let lanes = self.lanes();
        let named = format!("the plan {minibatch} x {epoch} x {memory} has {lanes} lanes on {memory} histories");
        if world == 0 || !lanes.is_multiple_of(world) {
            return Err(format!("{named}, which {world} processes cannot share evenly"));
        }
        if !memory.is_multiple_of(world) && !world.is_multiple_of(*memory) {
            return Err(format!(
                "{named}; {world} processes need a whole number of histories each, or each history a whole number of them"
            ));
        }
        let each = lanes / world;
        Ok(rank * each..(rank + 1) * each)
    }

    /// Checks the axes. The error names the key and its value.
    ///
    /// # Errors
    /// A sentence for a count of zero, or more histories than global batches.
    pub fn check(&self, batches: usize) -> Result<(), String> {
        for (key, value) in [("minibatch", self.minibatch), ("epoch", self.epoch), ("memory", self.memory)] {
            if value == 0 {
                return Err(format!("parallel.{key} is 0; it must be at least 1"));
            }
        }
        if self.memory > batches {
            return Err(format!(
                "parallel.memory = {}, but the training split has only {batches} global batches to begin at",
                self.memory
            ));
        }
        Ok(())
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.minibatch, self.epoch, self.memory)
    }
}
