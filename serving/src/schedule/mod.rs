//! The scheduler of reads. It answers reads together where possible, and refuses a read that cannot be in time before
//! any work is done for it.
//!
//! - [`Queue`](crate::schedule::policy::queue::Queue) is the policy, without clock or threads. [`Scheduler`] runs it in
//!   a server, [`simulate`] on a trace.
//! - [`CostModel`](crate::schedule::policy::cost::CostModel) predicts the time of a pass from the passes before it.
//! - [`Tenants`](crate::schedule::policy::tenants::Tenants) share the server by deficit round robin, in groups by how
//!   evenly their reads arrive.
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
