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

pub mod allocations;
pub mod bench;
mod command_line;
mod data;
pub mod device;
pub mod eval;
pub mod export;
pub mod fetch;
mod interrupt;
pub mod load;
mod machine;
mod model;
pub mod models;
pub mod new;
pub mod plan;
pub mod prepare;
pub mod pretrain;
mod progress;
mod ranks;
mod runs;
pub mod serve;
pub mod spec;
pub mod train;

pub use command_line::run;
pub use tempograph_models::Registry;
