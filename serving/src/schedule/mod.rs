//! Reads wait here for their turn: what can be answered together is, what cannot be answered in time is refused before any work.

mod read;
mod scheduler;
mod spec;

pub use read::{Answer, Body, Read, Refusal, Terms};
pub use scheduler::Scheduler;
pub use spec::{Policy, SchedulerSpec};
