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
mod facts;
mod heuristics;
mod kinds;
mod operation;
mod ops;
mod program;
mod registry;
mod settings;
mod static_memory;
mod walks;

#[cfg(feature = "cube")]
pub use executor::DeviceProgram;
pub use executor::{ProgramModule, SliceProgram, SliceWork, TensorContext};
pub use facts::{DatasetStats, IdleStats};
pub use heuristics::Heuristic;
pub use kinds::apan::ApanSpec;
pub use kinds::dyrep::DyrepSpec;
pub use kinds::graphmixer::GraphMixerSpec;
pub use kinds::jodie::{IdleSpec, JodieSpec};
pub use kinds::static_only::StaticOnlySpec;
pub use kinds::tgat::TgatSpec;
pub use kinds::tgn::{Embedding, TgnSpec};
pub use kinds::tncn::TncnSpec;
pub use operation::{Context, Operation, Stage, TableGradients, Tables};
pub use ops::{
    AnyTimeEncoding, AttentionLayer, AttentionSettings, Centres, CommonNeighbours, EndColumns, FixedTimeEncoding, Head,
    IdleNormalisation, LinkDecoder, MailPayload, MailRows, MailboxAttention, MailboxSettings, MeanOver, MemoryUpdate,
    MemoryUpdateSettings, MixerSettings, NeighbourSum, NodeRows, Op, PairFeatures, RowHead, RowMap, RowNorm,
    TimeEncoding, TimeProjection, TimeProjectionSettings, TokenMixer, WindowMean,
};
pub use program::{
    Axis, Builder, Declarations, FeatureWidths, Gradients, HopSizes, Inputs, Map, NeighbourSettings, Outputs, Param,
    ParameterLayout, Products, Program, Shape, Step, StepCost, StepSizes, Value, Weights,
};
pub use registry::{Kind, ModelKind, ModelSpec, Registry};
pub use settings::{
    AttentionForm, AttentionScores, EmptyNeighbourhood, Frequencies, MailDelivery, Message, Precision, TimeInit,
    Updater,
};
pub use static_memory::{PretrainSpec, StaticMemoryMode, StaticMemoryTrainer, StaticSpec};
pub use walks::WalkSpec;

/// What custom operations are written with.
pub use tempograph_kernels::{
    cpu::PaddedRows,
    tensor::{CpuTape, Tensor},
};
