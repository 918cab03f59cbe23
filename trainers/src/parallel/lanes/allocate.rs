//! Where the histories of a process are allocated: in its own memory, or shared with other processes of its machine.

use std::collections::BTreeSet;

use tempograph_framework::{EventLog, Graph, Needs};

use crate::TrainError;
use crate::parallel::batch_builder::GlobalBatch;
use crate::parallel::group::HistoryGroup;
use crate::parallel::lanes::{Lanes, TrainingHistory};
use crate::parallel::layout::Layout;
use crate::plan::Plan;
use crate::setup::TrainingRun;
use crate::transport::exchange::{Exchange, ExchangeError};
use crate::transport::machine;

/// The allocated histories of a process, empty.
pub(crate) struct AllocatedHistories {
    /// The first process of this machine.
    pub machine: usize,
    /// Graphs of the log on this machine.
    pub graphs: usize,
    /// Bytes of the log sorted by node that processes of this machine share.
    pub sorted: usize,
    /// The processes that share this process's history.
    pub group: Option<HistoryGroup>,
    pub histories: Vec<TrainingHistory>,
}

/// Allocates the histories of `layout`. All processes call this.
pub(crate) fn allocate_histories(
    run: &TrainingRun<'_>,
    needs: Needs,
    exchange: &mut dyn Exchange,
    Layout { plan, histories: numbers, sharers, .. }: &Layout,
) -> Result<AllocatedHistories, TrainError> {
    let (training_data, plan, rank) = (run.training_data, *plan, exchange.rank());
    let first = machine::first_ranks(exchange)?;
    let graphs = graphs(&first, rank, plan, run.parallel.prefetch > 0);
    let log = &training_data.dataset.log;
    let follows = Graph::attaches_log(&needs, log, graphs * training_data.dataset.nodes);
    let sorted = if follows { sort_by_node(exchange, log)? } else { 0 };
    let blank = |number| {
        let mut history = training_data.blank(needs.clone());
        if may_follow(number, sharers.is_some()) {
            history.attach_log(log, graphs * training_data.dataset.nodes);
        }
        history
    };
    let begun = || (0..plan.epoch).map(|_| GlobalBatch::allocate(plan)).collect();
    let (group, histories) = if let Some(sharers) = sharers {
        let (group, history) = HistoryGroup::create(
            exchange,
            sharers.clone(),
            &first,
            || blank(numbers.start),
            training_data.dataset.nodes,
        )?;
        (Some(group), vec![TrainingHistory { number: numbers.start, history, begun: begun() }])
    } else {
        let history = |number| {
            let mut history = blank(number);
            history.grow(training_data.dataset.nodes);
            history
        };
        (
            None,
            numbers
                .clone()
                .map(|number| TrainingHistory { number, history: history(number), begun: begun() })
                .collect(),
        )
    };
    Ok(AllocatedHistories { machine: first[rank], graphs, sorted, group, histories })
}

/// Whether history `number` may read the log for the events of a node. A history that begins in the middle of the log
/// stops following it at its first events. Processes that share a history cannot do that: a process that does not write
/// would not notice.
pub(crate) fn may_follow(number: usize, grouped: bool) -> bool {
    number == 0 || !grouped
}

/// Sorts `log` by node once for all processes of a machine. Gives the bytes they share, or 0 where this process sorts
/// its own.
fn sort_by_node(exchange: &mut dyn Exchange, log: &EventLog) -> Result<usize, ExchangeError> {
    let bytes = log.needed_by_node();
    let sort = |together: &mut usize, room| {
        log.sort_by_node(room, false);
        *together = bytes;
    };
    let find = |room| {
        log.sort_by_node(room, true);
        bytes
    };
    machine::once_in_shared_memory(exchange, || Ok(0), |_| bytes, sort, find)
}

/// Graphs of the log on this process's machine: one for each history, and with prefetch one more for each history of
/// each process. `first` names for each process the first on its machine.
fn graphs(first: &[usize], rank: usize, plan: Plan, ahead: bool) -> usize {
    let world = first.len();
    let here = (0..world).filter(|&process| first[process] == first[rank]);
    let histories = |process: usize| process * plan.memory / world..((process + 1) * plan.memory).div_ceil(world);
    let distinct = here.clone().flat_map(histories).collect::<BTreeSet<_>>().len();
    distinct + if ahead { here.map(|process| histories(process).len()).sum() } else { 0 }
}

impl Lanes {
    /// Bytes of all this process's histories.
    pub fn bytes(&self) -> usize {
        self.histories.iter().map(|trained| trained.history.bytes()).sum()
    }

    /// Bytes of histories and graphs that this process shares with others of its machine.
    pub fn shared_bytes(&self) -> usize {
        self.sorted + self.group.as_ref().map_or(0, HistoryGroup::shared_bytes)
    }

    /// Bytes of histories and graphs that only this process has.
    pub fn own_bytes(&self) -> usize {
        let sorted = if self.sorted > 0 { 0 } else { self.builder.log.bytes_by_node() };
        let ahead =
            |trained: &TrainingHistory| if self.prefetch.is_some() { trained.history.graph().bytes() } else { 0 };
        sorted + self.histories.iter().map(|trained| trained.history.own_bytes() + ahead(trained)).sum::<usize>()
    }
}
