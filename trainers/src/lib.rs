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
mod error;
mod parallel;
mod plan;
mod run;
mod setup;
mod step;
mod transport;

pub use error::TrainError;
pub use parallel::layout::HistoryPlace;
pub use parallel::prefetch::PrefetchReport;
pub use plan::propose::{Facts, NoProposal, Proposal, propose};
pub use plan::timetable::timetable;
pub use plan::{Lane, Plan, Stand, Turn};
pub use run::board::Board;
pub use run::checkpoint::{Kept, Mark, kept};
pub use run::report::{
    DataReport, EpochReport, Floor, ProcessReport, REPORT_SCHEMA, Report, Status, TrainReport, peak_memory_bytes,
};
pub use run::{Fitted, Outcome, Watch};
pub use setup::Fit;
pub use setup::course::{Course, Part};
pub use setup::files::RunFiles;
pub use setup::spec::{BetaScale, EvalSpec, LrScale, ParallelSpec, Schedule, SelectBy, TrainSpec};
pub use setup::trace::{Span, Stage, Timeline, Trace};
pub use step::adam::StepSettings;
pub use step::evaluate::{Answers, Evaluation, Examination, evaluate, warm};
pub use step::learner::{Learner, NotFinite, StepOutput};
pub use step::record::StepRecord;
pub use step::walk::Stages;
pub use transport::exchange::{Alone, Exchange, ExchangeError, add_in_order, agree};
pub use transport::launch::{Launch, Meeting};
pub use transport::machine::once_a_machine;
#[cfg(feature = "mpi")]
pub use transport::over::mpi::over_mpi;
#[cfg(feature = "cuda")]
pub use transport::over::nccl::over_nccl;
pub use transport::over::tcp::over_tcp;
