//! Reads wait here for their turn: what can be answered together is, what cannot be answered in time is refused before any work.
//!
//! - [`Queue`](queue::Queue) is the policy, without clock or threads; [`Scheduler`] drives it in a server, [`simulate`] on a trace.
//! - [`CostModel`](cost::CostModel) foretells how long a pass takes, from those before it.
//! - [`Tenants`](tenants::Tenants) share the server by deficit round robin, in groups by how evenly they ask.

mod arrivals;
mod cost;
mod foresight;
mod freshness;
mod job;
mod line;
mod outcome;
mod queue;
mod read;
mod scheduler;
mod simulate;
mod spec;
mod status;
mod stream;
mod tenants;
#[cfg(test)]
mod trace_tests;
mod worker;

pub use arrivals::Arrivals;
pub use job::Kind;
pub use outcome::Outcome;
pub use read::{Answer, Body, Read, Refusal, Terms};
pub use scheduler::Scheduler;
pub use simulate::{Arrival, Fate, Machine, simulate};
pub use spec::{Policy, SchedulerSpec};
pub use status::{CostStatus, SchedulerStatus, TenantStatus};
pub use stream::Group;
