//! Proposes the `i x j x k` plan for a log and its machines.

use tempograph_framework::Captured;

use crate::Plan;

/// The inputs of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanInputs {
    /// Events of a lane's shard, `train.batch`: enough to use a device fully.
    pub batch: usize,
    /// Events trained on in an epoch.
    pub events: usize,
    /// Captured shares by batch size, ascending; that of `batch` is among them.
    pub captured: Vec<Captured>,
    /// A global batch must capture at least this part of what `batch` captures, in `0..=1`.
    pub keep: f64,
    /// Machines.
    pub machines: usize,
    /// Devices of each: GPUs, or lanes that share its cores.
    pub devices: usize,
    /// Free bytes of one machine, after what all its lanes share.
    pub room: u64,
    /// One history, bytes.
    pub history: u64,
    /// Bytes that each lane needs besides views: its gradients.
    pub lane: u64,
    /// Bytes of the view of one shard. A lane has one view for each of its `j` sets of negatives.
    pub view: u64,
    /// Further views of a lane, for prefetched batches.
    pub ahead: usize,
}

/// A plan, and its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// A lane for each device.
    pub plan: Plan,
    /// The largest batch that captures enough, events.
    pub largest: usize,
    /// Histories that fit into one machine. They divide its lanes evenly.
    pub copies: usize,
}

/// Why nothing can be proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProposal {
    /// There is no device.
    #[error("{machines} machines with {devices} devices each: there must be at least one of each")]
    NoDevice {
        /// Machines.
        machines: usize,
        /// Devices of each.
        devices: usize,
    },
    /// Not even one history fits.
    #[error(
        "one history ({history} bytes) and {devices} lanes ({lane} bytes each) do not fit into the {room} bytes a machine has left"
    )]
    NoRoom {
        /// One history, bytes.
        history: u64,
        /// Lanes of a machine.
        devices: usize,
        /// Each lane on that history with its views, bytes.
        lane: u64,
        /// Free memory, bytes.
        room: u64,
    },
    /// Each machine's history begins at another batch, so there must be at least as many batches as machines.
    #[error(
        "{machines} machines need as many batches to begin at, but {events} events make {batches} batches of {batch}"
    )]
    TooFewBatches {
        /// Machines.
        machines: usize,
        /// Events an epoch.
        events: usize,
        /// Batches they make.
        batches: usize,
        /// Events of a batch.
        batch: usize,
    },
}

/// Proposes a plan of `machines * devices` lanes, by DistTGL's rule (SC 2023):
///
/// 1. Minibatch parallelism `i` makes batches larger without a second history, but events of one batch do not see each
///    other. So `i` is as large as the largest batch that captures enough (`keep`) allows, within one machine.
/// 2. Memory parallelism `k` sends only gradients between its histories. Each machine has one history, and more if its
///    memory allows.
/// 3. Epoch parallelism `j` is the rest: lanes of one machine on one history.
///
/// `i`, `j` and `k / machines` multiply to `devices`, so each divides it.
///
/// # Errors
/// [`NoProposal`], with its values.
pub fn propose(facts: &PlanInputs) -> Result<Proposal, NoProposal> {
    let &PlanInputs { batch, events, machines, devices, room, history, .. } = facts;
    if machines == 0 || devices == 0 {
        return Err(NoProposal::NoDevice { machines, devices });
    }
    let largest = largest_batch(facts);
    let minibatch = largest_divisor(devices, |i| i * batch <= largest.max(batch)).unwrap_or(1);
    let groups = devices / minibatch;
    let fits = |copies: usize| facts.held(groups / copies, copies) <= room;
    let no_room = || NoProposal::NoRoom { history, devices, lane: facts.lane_with_views(groups), room };
    let copies = largest_divisor(groups, fits).ok_or_else(no_room)?;
    let batches = Plan { minibatch, ..Plan::ONE }.batches(events, batch);
    if batches < machines {
        return Err(NoProposal::TooFewBatches { machines, events, batches, batch: minibatch * batch });
    }
    let here = largest_divisor(groups, |here| fits(here) && here * machines <= batches).ok_or_else(no_room)?;
    let plan = Plan { minibatch, epoch: groups / here, memory: here * machines };
    Ok(Proposal { plan, largest, copies })
}

impl PlanInputs {
    /// Bytes of one lane where `epoch` lanes take turns at a batch.
    fn lane_with_views(&self, epoch: usize) -> u64 {
        self.lane.saturating_add(self.view.saturating_mul((epoch + self.ahead) as u64))
    }

    /// Bytes that a machine holds with `copies` histories and all its lanes.
    fn held(&self, epoch: usize, copies: usize) -> u64 {
        let lanes = self.lane_with_views(epoch).saturating_mul(self.devices as u64);
        self.history.saturating_mul(copies as u64).saturating_add(lanes)
    }
}

/// The largest batch size such that it and all smaller ones from `batch` on capture enough.
fn largest_batch(facts: &PlanInputs) -> usize {
    let own =
        facts.captured.iter().find(|captured| captured.batch == facts.batch).map_or(0.0, |captured| captured.share);
    let larger = facts.captured.iter().filter(|captured| captured.batch >= facts.batch);
    larger
        .take_while(|captured| captured.share >= facts.keep * own)
        .last()
        .map_or(facts.batch, |captured| captured.batch)
}

/// The largest divisor of `number` that `fits`, if one does.
fn largest_divisor(number: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    (1..=number).rev().find(|&divisor| number.is_multiple_of(divisor) && fits(divisor))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Half of what 100 events capture is lost at 800.
    fn facts() -> PlanInputs {
        let captured = [(100, 0.4), (200, 0.38), (400, 0.34), (800, 0.2), (1600, 0.35)];
        PlanInputs {
            batch: 100,
            events: 50_000,
            captured: captured.map(|(batch, share)| Captured { batch, share }).to_vec(),
            keep: 0.8,
            machines: 1,
            devices: 8,
            room: 1 << 30,
            history: 1 << 20,
            lane: 1 << 20,
            view: 0,
            ahead: 0,
        }
    }

    fn plan(facts: &PlanInputs) -> [usize; 3] {
        let Plan { minibatch, epoch, memory } = propose(facts).unwrap().plan;
        [minibatch, epoch, memory]
    }

    #[test]
    fn shards_stop_at_the_largest_batch_that_captures_enough() {
        assert_eq!(propose(&facts()).unwrap().largest, 400);
        assert_eq!(plan(&facts()), [4, 1, 2]);
        assert_eq!(plan(&PlanInputs { keep: 0.9, ..facts() }), [2, 1, 4]);
        assert_eq!(plan(&PlanInputs { keep: 1.0, ..facts() }), [1, 1, 8]);
        assert_eq!(plan(&PlanInputs { keep: 0.0, ..facts() }), [8, 1, 1]);
    }

    #[test]
    fn a_plan_without_memory_for_its_histories_becomes_epoch_parallelism() {
        let room = |histories: u64| (8 << 20) + (histories << 20);
        assert_eq!(plan(&PlanInputs { keep: 1.0, room: room(3), ..facts() }), [1, 4, 2]);
        assert_eq!(plan(&PlanInputs { keep: 1.0, room: room(1), ..facts() }), [1, 8, 1]);
        assert_eq!(plan(&PlanInputs { room: room(1), ..facts() }), [4, 2, 1]);
        let error = propose(&PlanInputs { room: room(0), ..facts() }).unwrap_err().to_string();
        assert!(error.contains("1048576 bytes) and 8 lanes") && error.contains("8388608 bytes a machine"), "{error}");
    }

    #[test]
    fn a_lane_has_room_for_the_past_of_each_of_its_sets_of_negatives_and_of_what_is_made_ready_ahead() {
        let mib = |count: u64| count << 20;
        // Eight lanes of 1 MiB and their views: 1 x j x k has k histories and 8 j views.
        let facts = |room| PlanInputs { keep: 1.0, view: mib(1), room: mib(room), ..facts() };
        let of = |(j, k): (u64, u64)| 8 + 8 * j + k;
        assert_eq!(plan(&facts(of((1, 8)))), [1, 1, 8]);
        // With these numbers a history needs less memory than another set of negatives, so where eight do not fit, no
        // plan fits.
        let error = propose(&facts(of((1, 8)) - 1)).unwrap_err().to_string();
        assert!(error.contains(&format!("8 lanes ({} bytes each)", mib(9))), "{error}");
        let large = |room| PlanInputs { history: mib(100), ..facts(room) };
        let of = |(j, k): (u64, u64)| 8 + 8 * j + 100 * k;
        assert_eq!(plan(&large(of((2, 4)))), [1, 2, 4]);
        assert_eq!(plan(&large(of((2, 4)) - 1)), [1, 4, 2]);
        let ahead = |room| PlanInputs { ahead: 3, ..large(room) };
        assert_eq!(plan(&ahead(of((2, 4)) + 3 * 8)), [1, 2, 4]);
        assert_eq!(plan(&ahead(of((2, 4)) + 3 * 8 - 1)), [1, 4, 2]);
    }

    #[test]
    fn four_machines_of_eight_devices_with_room_for_two_histories_each() {
        let captured = [(1600, 1.0), (3200, 0.8), (6400, 0.5)].map(|(batch, share)| Captured { batch, share }).to_vec();
        let room = 8 * (1 << 20) + 2 * (1 << 20);
        let facts = PlanInputs { batch: 1600, events: 1_000_000, captured, machines: 4, room, ..facts() };
        assert_eq!(plan(&facts), [2, 2, 8]);
    }

    #[test]
    fn every_proposal_uses_every_device_and_a_history_never_spans_machines() {
        for machines in 1..=5 {
            for devices in 1..=12 {
                for copies in 1..=12 {
                    for keep in [0.0, 0.5, 0.8, 0.9, 1.0] {
                        let facts = PlanInputs { machines, devices, keep, lane: 0, room: copies << 20, ..facts() };
                        let plan = propose(&facts).unwrap().plan;
                        assert_eq!(plan.lanes(), machines * devices);
                        assert_eq!(plan.memory % machines, 0);
                        assert!(plan.memory / machines <= copies as usize);
                        // A process for each machine, and one for each device, can share it.
                        assert!(
                            plan.lanes_of_process(0, machines).is_ok()
                                && plan.lanes_of_process(0, machines * devices).is_ok(),
                            "{plan}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn histories_are_never_more_than_batches_to_begin_at() {
        assert_eq!(plan(&PlanInputs { keep: 1.0, events: 301, ..facts() }), [1, 2, 4]);
        let error = propose(&PlanInputs { keep: 1.0, events: 99, machines: 2, ..facts() }).unwrap_err().to_string();
        assert!(error.contains("99 events make 1 batches of 100"), "{error}");
        assert!(propose(&PlanInputs { devices: 0, ..facts() }).unwrap_err().to_string().contains("0 devices"));
    }
}
