//! Where the histories of a training run live, and which lanes train on them. Only this file decides it.

use std::ops::Range;

use crate::{ParallelSpec, Plan};

/// Where histories live while they are trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryLocation {
    /// In host memory: lanes read views of it.
    Host,
    /// On the device that trains. Its model reads the history itself. The host has the history between training
    /// segments.
    Device,
}

/// The part of one process in a training run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub plan: Plan,
    pub history_location: HistoryLocation,
    /// Its lanes, by number.
    pub lanes: Range<usize>,
    /// The number of its lanes that compute at the same time.
    pub workers: usize,
    /// Its histories, by number.
    pub histories: Range<usize>,
    /// The processes that share its one history, if there are several.
    pub sharers: Option<Range<usize>>,
}

impl ParallelSpec {
    /// Where the histories of this plan live. On the device, if the model can have its history there (`has_device`),
    /// the plan has one lane and there is no prefetch; prefetch reads views on the host.
    pub fn history_location(&self, has_device: bool) -> HistoryLocation {
        let alone = self.plan().lanes() == 1 && self.prefetch == 0;
        if alone && has_device { HistoryLocation::Device } else { HistoryLocation::Host }
    }

    /// The part of process `rank` of `world`. `has_resident` says whether the model can train on a device with its
    /// history.
    ///
    /// # Errors
    /// A sentence if the processes cannot share the plan.
    pub(crate) fn layout(&self, rank: usize, world: usize, has_resident: bool) -> Result<Layout, String> {
        let plan = self.plan();
        let lanes = plan.lanes_of_process(rank, world)?;
        let workers = if self.threads == 0 { lanes.len() } else { self.threads.min(lanes.len()) };
        let histories = plan.lane(lanes.start).history..plan.lane(lanes.end - 1).history + 1;
        let sharers = (world > plan.memory).then(|| {
            let each = world / plan.memory;
            histories.start * each..(histories.start + 1) * each
        });
        Ok(Layout { plan, history_location: self.history_location(has_resident), lanes, workers, histories, sharers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec([minibatch, epoch, memory]: [usize; 3]) -> ParallelSpec {
        ParallelSpec { minibatch, epoch, memory, ..ParallelSpec::default() }
    }

    #[test]
    fn a_history_lives_on_a_device_for_one_lane_that_nothing_is_made_ready_for() {
        assert_eq!(spec([1; 3]).history_location(true), HistoryLocation::Device);
        assert_eq!(spec([1; 3]).history_location(false), HistoryLocation::Host);
        assert_eq!(spec([1, 2, 1]).history_location(true), HistoryLocation::Host);
        let ahead = ParallelSpec { prefetch: 1, ..spec([1; 3]) };
        assert_eq!(ahead.history_location(true), HistoryLocation::Host);
    }

    #[test]
    fn processes_have_histories_each_or_share_one() {
        let whole = spec([2, 1, 2]).layout(0, 1, false).unwrap();
        assert_eq!((whole.lanes, whole.workers, whole.histories, whole.sharers), (0..4, 4, 0..2, None));
        let each = spec([2, 1, 2]).layout(1, 2, false).unwrap();
        assert_eq!((each.lanes, each.histories, each.sharers), (2..4, 1..2, None));
        let shared = spec([2, 1, 2]).layout(3, 4, false).unwrap();
        assert_eq!((shared.lanes, shared.histories, shared.sharers), (3..4, 1..2, Some(2..4)));
        assert!(spec([2, 1, 2]).layout(0, 3, false).unwrap_err().contains("3 processes cannot share"));
        let few = ParallelSpec { threads: 3, ..spec([2, 1, 2]) };
        assert_eq!(few.layout(0, 1, false).unwrap().workers, 3);
    }
}
