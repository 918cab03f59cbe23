//! Reads wait here for their turn: what can be answered together is, what cannot be answered in time is refused before any work.
//!
//! - [`Queue`](crate::schedule::policy::queue::Queue) is the policy, without clock or threads; [`Scheduler`] drives it in a server, [`simulate`] on a trace.
//! - [`CostModel`](crate::schedule::policy::cost::CostModel) foretells how long a pass takes, from those before it.
//! - [`Tenants`](crate::schedule::policy::tenants::Tenants) share the server by deficit round robin, in groups by how evenly they ask.
mod freshness;
pub(crate) mod policy;
mod read;
mod scheduler;
mod simulate;
mod status;
mod worker;

pub use policy::job::ReadKind;
pub use policy::spec::{Policy, SchedulerSpec};
pub use policy::stream::ArrivalPattern;
pub use read::{Answer, AnswerBody, ReadError, ReadOptions, ReadRequest};
pub use scheduler::Scheduler;
pub use simulate::arrivals::Arrivals;
pub use simulate::outcome::SimulationReport;
pub use simulate::{Arrival, Machine, ReadOutcome, simulate};
pub use status::{CostStatus, SchedulerStatus, TenantStatus};
