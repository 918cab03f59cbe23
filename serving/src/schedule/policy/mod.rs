//! The policy: which reads are admitted, and which is answered next. It has no clock and no threads.
pub(crate) mod cost;
pub(crate) mod feasibility;
pub(crate) mod job;
pub(crate) mod job_queue;
pub(crate) mod queue;
pub(crate) mod spec;
pub(crate) mod stream;
pub(crate) mod tenants;
