//! Tempograph trains temporal graph networks, most of which keep a memory for every node, compares them, and serves them live.
//!
//! This crate is the command line, `tempograph`, where all the others meet. Each subcommand is a module with a clap `Args` struct and
//! a `run` that takes it, so that the binary is only a dispatch and a test can run a subcommand without a process. A program of your own
//! that adds kinds of models is one call of [`run`].
//!
//! | crate | what | its pages of the [book](../../../docs/src/SUMMARY.md) |
//! |---|---|---|
//! | [`tempograph_kernels`] | numeric routines with their backward passes; knows no word of the domain | [Kernels](../../../docs/src/design/kernels.md) |
//! | [`tempograph_framework`] | the vocabulary: events, data sets, history, views, negatives, metrics, files | [History](../../../docs/src/design/history.md), [Evaluation](../../../docs/src/design/evaluation.md), [Files](../../../docs/src/design/formats.md), [Read another format](../../../docs/src/extend/reader.md) |
//! | [`tempograph_models`] | kinds of models, each a program of operations | [Programs of operations](../../../docs/src/design/programs.md), [Add a model](../../../docs/src/extend/model.md), [Add an operation](../../../docs/src/extend/operation.md) |
//! | [`tempograph_trainers`] | the loop, plans of many trainers, checkpoints, reports; names no model | [Parallel training](../../../docs/src/design/parallel.md), [Determinism](../../../docs/src/design/determinism.md) |
//! | [`tempograph_serving`] | artifacts, the server, its log of record; names no trainer | [Scheduling](../../../docs/src/design/scheduling.md), [Durability](../../../docs/src/design/durability.md) |
//!
//! The path of a training: [`run`] parses the command line, `command::train::run` opens the data and builds the learner, and `TrainingRun::train`
//! of the trainers is the loop. Each step reads a view of the past of a batch, has an executor of the models compute it with the kernels,
//! and lets the history observe the batch.
//!
//! `mdbook build docs` puts the book into `target/book`. `ARCHITECTURE.md` is the short version, the
//! [glossary](../../../docs/src/glossary.md) has every term.
//!
//! ```
//! use tempograph_experiments::fetch::Set;
//!
//! let wikipedia = Set::find("wikipedia")?;
//! assert_eq!(wikipedia.url, "http://snap.stanford.edu/jodie/wikipedia.csv");
//! # Ok::<(), tempograph_experiments::fetch::FetchError>(())
//! ```
#![warn(clippy::unwrap_used)]
// Printing ends a process whose reader has ended: `terminal::print` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]
pub mod bench;
mod command;
pub mod fetch;
pub mod load;
mod setup;
mod terminal;

pub use command::{new, run};
pub use setup::{allocations, spec};
pub use tempograph_models::Registry;
