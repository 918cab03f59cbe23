//! The steps of a plan, evaluation, checkpoints and reports. Nothing here names a model.
//!
//! A [`Fit`] trains a [`Learner`] on a [`Course`] as a [`TrainSpec`], a [`ParallelSpec`] and an [`EvalSpec`] say. Its work is that of a [`Plan`]: one
//! lane, or many on threads, on devices and in processes, which see each other through an [`Exchange`]. A plan means the same however it is run, and a run that is
//! stopped and resumed is the run that never stopped. What was measured is a [`Report`].
//!
//! The book: [Parallel training](../../../docs/src/design/parallel.md), [Determinism](../../../docs/src/design/determinism.md),
//! [Evaluation](../../../docs/src/design/evaluation.md).
//!
//! ```
//! use tempograph_trainers::{Schedule, TrainSpec};
//!
//! let spec = TrainSpec { lr: 1e-3, schedule: Schedule::Linear, warmup: 10, ..TrainSpec::default() };
//! assert_eq!(spec.lr_at(0, 100), 1e-4);
//! assert_eq!(spec.lr_at(50, 100), 5e-4);
//! ```
mod adam;
mod batch_builder;
mod board;
mod checkpoint;
mod course;
mod epoch;
mod error;
mod evaluate;
mod exchange;
mod fit;
mod group;
mod lanes;
mod launch;
mod layout;
mod learn;
mod learner;
mod machine;
mod mesh;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "cuda")]
mod nccl;
mod pipeline;
mod plan;
#[cfg(test)]
mod plan_tests;
mod prefetch;
mod propose;
mod report;
mod session;
mod spec;
mod tcp;
mod timetable;
mod trace;

pub use adam::StepSettings;
pub use board::Board;
pub use checkpoint::{Kept, Mark, RunFiles, kept};
pub use course::{Course, Part};
pub use epoch::Stages;
pub use error::TrainError;
pub use evaluate::{Answers, Evaluation, Examination, evaluate, warm};
pub use exchange::{Alone, Exchange, ExchangeError, add_in_order, agree};
pub use fit::{Fit, Fitted, Outcome, Watch};
pub use launch::{Launch, Meeting};
pub use layout::HistoryPlace;
pub use learn::StepRecord;
pub use learner::{Learner, NotFinite, StepOutput};
pub use machine::once_a_machine;
#[cfg(feature = "mpi")]
pub use mpi::over_mpi;
#[cfg(feature = "cuda")]
pub use nccl::over_nccl;
pub use plan::{Lane, Plan, Stand, Turn};
pub use prefetch::PrefetchReport;
pub use propose::{Facts, NoProposal, Proposal, propose};
pub use report::{
    DataReport, EpochReport, Floor, ProcessReport, REPORT_SCHEMA, Report, Status, TrainReport, peak_memory_bytes,
};
pub use spec::{BetaScale, EvalSpec, LrScale, ParallelSpec, Schedule, SelectBy, TrainSpec};
pub use tcp::over_tcp;
pub use timetable::timetable;
pub use trace::{Span, Stage, Timeline, Trace};
