//! Reads wait here for their turn: what can be answered together is, what cannot be answered in time is refused before any work.
//!
//! - [`Queue`](queue::Queue) is the policy, without clock or threads; [`Scheduler`] drives it in a server, [`simulate`] on a trace.
//! - [`CostModel`](cost::CostModel) foretells how long a pass takes, from those before it.
//! - [`Tenants`](tenants::Tenants) share the server by deficit round robin, in groups by how evenly they ask.

mod arrivals;
mod cost;
mod foresight;
mod job;
mod line;
mod outcome;
mod queue;
mod read;
mod scheduler;
mod simulate;
mod spec;
mod stream;
mod tenants;
#[cfg(test)]
mod trace_tests;

pub use arrivals::Arrivals;
pub use outcome::Outcome;
pub use read::{Answer, Body, Read, Refusal, Terms};
pub use scheduler::Scheduler;
pub use simulate::{Arrival, Fate, Machine, simulate};
pub use spec::{Policy, SchedulerSpec};
