//! The steps of a plan, evaluation, checkpoints and reports. Nothing here names a model.
//!
//! A [`TrainingRun`] trains a [`Learner`] on a [`TrainingData`] as a [`TrainSpec`], a [`ParallelSpec`] and an
//! [`EvalSpec`] say. A [`Plan`] divides its work: one lane, or many on threads, on devices and in processes, which
//! communicate through an [`Exchange`]. A plan has the same meaning on any of them. A run that is stopped and resumed
//! gives the same result as a run that was never stopped. A [`Report`] holds what was measured.
//!
//! The book: [Parallel training](../../../docs/src/design/parallel.md),
//! [Determinism](../../../docs/src/design/determinism.md), [Evaluation](../../../docs/src/design/evaluation.md).
//!
//! ```
//! use tempograph_trainers::{Schedule, TrainSpec};
//!
//! let spec = TrainSpec { lr: 1e-3, schedule: Schedule::Linear, warmup: 10, ..TrainSpec::default() };
//! assert_eq!(spec.lr_at(0, 100), 1e-4);
//! assert_eq!(spec.lr_at(50, 100), 5e-4);
//! ```
mod divergence;
mod error;
mod parallel;
mod plan;
mod run;
mod setup;
mod step;
mod transport;

pub use divergence::{DIVERGED_LOSS, Divergence, NotFinite};
pub use error::TrainError;
pub use parallel::layout::HistoryLocation;
pub use parallel::prefetch::PrefetchReport;
pub use plan::propose::{NoProposal, PlanInputs, Proposal, propose};
pub use plan::timetable::timetable;
pub use plan::{Lane, LaneTask, Plan, PlanPosition};
pub use run::board::TensorBoardWriter;
pub use run::checkpoint::{BestEpoch, BestModel, read_best_model};
pub use run::report::{
    Baseline, DataReport, EpochReport, ProcessReport, REPORT_SCHEMA, Report, Status, TrainReport, peak_memory_bytes,
};
pub use run::{Outcome, StartPoint, TrainingObserver, TrainingSummary};
pub use setup::TrainingRun;
pub use setup::files::RunFiles;
pub use setup::spec::{BetaScale, EvalSpec, LrScale, ParallelSpec, Schedule, SelectBy, TrainSpec};
pub use setup::trace::{Span, Stage, Timeline, Trace};
pub use setup::training_data::{Part, Sources, TrainingData};
pub use step::adam::StepSettings;
pub use step::audit::NegativeFacts;
pub use step::evaluate::{BatchScores, Evaluation, EvaluationTask, evaluate, warm_up};
pub use step::learner::{Learner, StepOutput};
pub use step::record::StepRecord;
pub use step::walk::StageTimes;
pub use transport::exchange::{Exchange, ExchangeError, SingleProcess, add_in_order, check_same_hash};
pub use transport::launch::{Launch, Rendezvous};
pub use transport::machine::once_per_machine;
#[cfg(feature = "mpi")]
pub use transport::over::mpi::connect_mpi;
#[cfg(feature = "cuda")]
pub use transport::over::nccl::connect_nccl;
pub use transport::over::tcp::connect_tcp;
