//! Who is let in and what is answered next. It knows no clock and no thread.
pub(crate) mod cost;
pub(crate) mod feasibility;
pub(crate) mod job;
pub(crate) mod job_queue;
pub(crate) mod queue;
pub(crate) mod spec;
pub(crate) mod stream;
pub(crate) mod tenants;
