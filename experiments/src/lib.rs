//! The command line of Tempograph: where models, trainers and the server meet.
//!
//! Each subcommand is a module with a clap `Args` struct and a `run` that takes it, so that the binary is only a
//! dispatch and a test can run a subcommand without a process.
//!
//! ```
//! use tempograph_experiments::fetch::Set;
//!
//! let wikipedia = Set::find("wikipedia")?;
//! assert_eq!(wikipedia.url, "http://snap.stanford.edu/jodie/wikipedia.csv");
//! # Ok::<(), tempograph_experiments::fetch::FetchError>(())
//! ```
#![warn(clippy::unwrap_used)]
pub mod bench;
mod command;
pub mod fetch;
pub mod load;
mod setup;
mod terminal;

pub use command::{new, run};
pub use setup::{allocations, spec};
pub use tempograph_models::Registry;
