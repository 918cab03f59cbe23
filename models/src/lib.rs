//! Models of temporal graphs, one paper per file.
//!
//! A model is a short list of operations ([`Program`]), recorded once when it is built ([`Builder`]). Executors run the
//! list: on slices of host memory ([`SliceProgram`]), on tensors with or without Burn's tape ([`ProgramModule`]), on
//! devices (`DeviceProgram`). The [`Registry`] names the kinds. A [`StaticMemoryTrainer`] learns static memory, which
//! any kind may read; [`Heuristic`] is the baseline that models are compared with.
//!
//! The book: [Programs of operations](../../../docs/src/design/programs.md) describes the kinds and the operations.
//! [Add a model](../../../docs/src/extend/model.md) and [Add an operation](../../../docs/src/extend/operation.md) show
//! how to add your own; their example is in `models/examples/own`.
//!
//! ```
//! use tempograph_framework::{Dataset, Draw, Features, History, NodeId, Purpose, Queries, SliceModel};
//! use tempograph_models::{FeatureWidths, ModelSpec, SliceProgram, TgnSpec};
//!
//! let set = Dataset::from_spec("synthetic:events=20,users=4,items=3")?;
//! let spec = ModelSpec::from(TgnSpec { memory: 8, time: 8, width: 8, ..TgnSpec::default() });
//! let model = SliceProgram::new(spec.program(FeatureWidths::default())?, 1);
//! let history = History::new(set.nodes, model.needs(), set.log.time()[0], Features::default());
//!
//! let queries = Queries::of_candidates(NodeId(0), &[NodeId(4), NodeId(5)], set.log.time()[19]);
//! let view = history.view(&queries, None, Draw::new(0).of(Purpose::Sampling));
//! let mut work = Default::default();
//! model.forward(&queries, &view, None, &mut work);
//! assert_eq!(work.as_ref().scores.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
mod executor;
mod heuristics;
mod kinds;
mod operation;
mod ops;
mod program;
mod registry;
mod settings;
mod static_memory;

#[cfg(feature = "cube")]
pub use executor::DeviceProgram;
pub use executor::{ProgramModule, SliceProgram, SliceWork};
pub use heuristics::Heuristic;
pub use kinds::apan::ApanSpec;
pub use kinds::dyrep::DyrepSpec;
pub use kinds::graphmixer::GraphMixerSpec;
pub use kinds::jodie::{IdleSpec, JodieSpec};
pub use kinds::static_only::StaticOnlySpec;
pub use kinds::tgat::TgatSpec;
pub use kinds::tgn::{Embedding, TgnSpec};
pub use kinds::tncn::TncnSpec;
pub use operation::{
    Axis, Builder, Context, Declarations, FeatureWidths, Gradients, HopSizes, Inputs, Map, NeighbourSettings,
    Operation, Param, ParameterLayout, Products, Shape, Stage, Step, StepSizes, TableGradients, Tables, TensorContext,
    Value, Weights,
};
pub use ops::layers::attention::{AttentionLayer, AttentionSettings};
pub use ops::layers::mixer::{MixerSettings, TokenMixer};
pub use ops::layers::projection::{IdleNormalisation, TimeProjection, TimeProjectionSettings};
pub use ops::layers::sum::NeighbourSum;
pub use ops::layers::window::{MeanOver, WindowMean};
pub use ops::mailbox::{MailboxAttention, MailboxSettings};
pub use ops::memory::{MemoryUpdate, MemoryUpdateSettings};
pub use ops::pairs::common::{CommonNeighbours, EndColumns};
pub use ops::pairs::decoder::{LinkDecoder, PairFeatures};
pub use ops::pairs::head::{Head, RowHead};
pub use ops::tables::centres::Centres;
pub use ops::tables::map::RowMap;
pub use ops::tables::norm::RowNorm;
pub use ops::tables::rows::NodeRows;
pub use ops::tables::time::{AnyTimeEncoding, FixedTimeEncoding, TimeEncoding};
pub use program::{MailPayload, MailRows, ModelKind, ModelSpec, Outputs, Program, StepCost};
pub use registry::{Kind, Registry};
pub use settings::{
    AttentionForm, AttentionScores, DatasetStats, EmptyNeighbourhood, Frequencies, IdleStats, MailDelivery, Message,
    Precision, PretrainSpec, StaticMemoryMode, StaticSpec, TimeInit, Updater, WalkSpec,
};
pub use static_memory::StaticMemoryTrainer;

/// What custom operations are written with.
pub use tempograph_kernels::{
    cpu::PaddedRows,
    tensor::{CpuTape, Tensor},
};
