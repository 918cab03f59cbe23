//! Models of temporal graphs, one paper a file.
//!
//! [`Tgn`] is trained and served, with DistTGL's static memory ([`StaticGraph`] learns it) or without; [`Heuristic`] is the floor it is
//! measured against.
//!
//! ```
//! use tempograph_framework::{Dataset, Draw, Features, History, Model, NodeId, Purpose, Queries};
//! use tempograph_kernels::tensor::Cpu;
//! use tempograph_models::{FeatureWidths, Tgn, TgnSpec};
//!
//! let set = Dataset::from_spec("synthetic:events=20,users=4,items=3")?;
//! let spec = TgnSpec { memory: 8, time: 8, width: 8, ..TgnSpec::default() };
//! let model = Tgn::<Cpu>::new(&spec, FeatureWidths::default(), 1, &Default::default());
//! let history = History::new(set.nodes, model.needs(), set.log.time()[0], Features::default());
//!
//! let queries = Queries::of_candidates(NodeId(0), &[NodeId(4), NodeId(5)], set.log.time()[19]);
//! let view = history.view(&queries, None, Draw::new(0).of(Purpose::Sampling));
//! assert_eq!(model.forward(&queries, &view, None).scores.dims(), [2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
mod disttgl;
mod heuristics;
mod layers;
mod tgn;

pub use disttgl::{PretrainSpec, StaticGraph, StaticSpec, Wiring};
pub use heuristics::Heuristic;
pub use tgn::{
    Attention, AttentionScores, Embedding, FeatureWidths, HopSizes, Message, Precision, SliceTgn, SliceWork, StepCost,
    StepSizes, Tgn, TgnSpec, TimeInit, Updater, step_cost,
};
#[cfg(feature = "cube")]
pub use tgn::{DeviceTgn, NotOnDevice};
