//! Counts and estimates of the scheduler.

use serde::Serialize;

use crate::schedule::policy::job::ReadKind;
use crate::schedule::policy::queue::Queue;
use crate::schedule::policy::stream::ArrivalPattern;

/// Most tenants in a status: those with most waiting reads.
const TOLD: usize = 16;

/// The state of a scheduler. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SchedulerStatus {
    /// Reads that wait now.
    pub waiting: usize,
    /// Threads that compute answers.
    pub workers: usize,
    /// Reads admitted.
    pub admitted: u64,
    /// Reads refused because too many were waiting.
    pub refused_full: u64,
    /// Reads refused because they would have been late.
    pub refused_late: u64,
    /// Reads admitted that could not meet their deadline after all, or that were displaced by a read of another tenant.
    pub dropped: u64,
    /// Passes computed.
    pub passes: u64,
    /// Pairs, candidates and nodes answered in them.
    pub items: u64,
    /// Seconds in which workers computed.
    pub busy_seconds: f64,
    /// Passes that ran between two chunks of a long one.
    pub overtakings: u64,
    /// Costs of passes by kind, for the kinds with enough observations.
    pub costs: Vec<CostStatus>,
    /// Tenants with waiting reads first, then others that are remembered.
    pub tenants: Vec<TenantStatus>,
}

/// The cost of a kind of pass, as estimated from earlier passes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostStatus {
    /// `score`, `score-shown`, `score-many`, `embedding`, `explain`, `rank` or `top-k`.
    pub kind: ReadKind,
    /// Fixed microseconds of a pass.
    pub pass_us: f64,
    /// Microseconds of an item.
    pub item_us: f64,
    /// Microseconds of a neighbour of an item.
    pub neighbour_us: f64,
    /// The factor by which the prediction is multiplied to hold for 95 % of passes.
    pub margin: f64,
}

/// The waiting reads and arrivals of a tenant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TenantStatus {
    /// Its name; empty for all clients without a name.
    pub name: String,
    /// Its waiting reads.
    pub waiting: usize,
    /// Coefficient of variation of the gaps between its reads; 1 for independent arrivals.
    pub arrival_cv: Option<f64>,
    /// Whether its stream is `smooth` or `bursty`.
    pub group: ArrivalPattern,
}

impl<T> Queue<T> {
    /// Adds the queue's part of the status.
    pub fn describe(&self, status: &mut SchedulerStatus) {
        status.waiting = self.tenants.waiting();
        status.workers = self.running.len();
        let known = ReadKind::ALL.into_iter().filter(|&kind| self.costs[kind as usize].is_trusted());
        status.costs = known.map(|kind| self.cost_of(kind)).collect();
        let mut tenants: Vec<_> = self.tenants.iter().filter(|(_, tenant)| tenant.stream.last().is_some()).collect();
        tenants.sort_by_key(|(_, tenant)| std::cmp::Reverse((tenant.waiting(), tenant.stream.last())));
        let tell = |(name, tenant): (&str, &crate::schedule::policy::tenants::Tenant<T>)| TenantStatus {
            name: name.to_owned(),
            waiting: tenant.waiting(),
            arrival_cv: tenant.stream.variation(),
            group: tenant.stream.group(),
        };
        status.tenants = tenants.into_iter().take(TOLD).map(tell).collect();
    }

    fn cost_of(&self, kind: ReadKind) -> CostStatus {
        let cost = &self.costs[kind as usize];
        let [pass, item, neighbour] = cost.parts();
        CostStatus {
            kind,
            pass_us: 1e6 * pass,
            item_us: 1e6 * item,
            neighbour_us: 1e6 * neighbour,
            margin: cost.margin(),
        }
    }
}
