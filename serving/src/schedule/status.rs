//! Every number there is about the scheduler.

use serde::Serialize;

use crate::schedule::policy::job::ReadKind;
use crate::schedule::policy::queue::Queue;
use crate::schedule::policy::stream::ArrivalPattern;

/// Tenants told of: those with most waiting reads.
const TOLD: usize = 16;

/// How a scheduler is doing. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SchedulerStatus {
    /// Reads that wait now.
    pub waiting: usize,
    /// Threads that compute answers.
    pub workers: usize,
    /// Reads let in.
    pub admitted: u64,
    /// Reads refused because too many wait.
    pub refused_full: u64,
    /// Reads refused because they would have been late.
    pub refused_late: u64,
    /// Reads let in whose deadline could not be kept after all, or that gave way to another tenant.
    pub dropped: u64,
    /// Passes made.
    pub passes: u64,
    /// Pairs, candidates and nodes answered in them.
    pub items: u64,
    /// Seconds that workers computed.
    pub busy_seconds: f64,
    /// Passes that came between two chunks of a long one.
    pub overtakings: u64,
    /// What passes cost, by kind, of the kinds that have been seen.
    pub costs: Vec<CostStatus>,
    /// Tenants with waiting reads, or else heard of lately.
    pub tenants: Vec<TenantStatus>,
}

/// What a kind of pass costs, as learned from those that were made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostStatus {
    /// `score`, `score-shown`, `embedding`, `explain`, `rank` or `top-k`.
    pub kind: ReadKind,
    /// Microseconds of a pass.
    pub pass_us: f64,
    /// Microseconds of an item in it.
    pub item_us: f64,
    /// Microseconds of a neighbour of those.
    pub neighbour_us: f64,
    /// By what that is multiplied to hold for nineteen passes in twenty.
    pub margin: f64,
}

/// How a tenant asks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TenantStatus {
    /// Its name; empty for all who give none.
    pub name: String,
    /// Reads of it that wait.
    pub waiting: usize,
    /// Coefficient of variation of the gaps between its reads; 1 for independent arrivals.
    pub arrival_cv: Option<f64>,
    /// Whether its stream is `smooth` or `bursty`.
    pub group: ArrivalPattern,
}

impl<T> Queue<T> {
    /// Adds what the queue knows.
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
