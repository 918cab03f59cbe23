//! Opens a service and runs it: its threads, what another server writes, and events that wait or are sent again.
mod follow;
mod open;
pub(crate) mod resend;
mod threads;
mod wait;
