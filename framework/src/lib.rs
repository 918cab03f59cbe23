//! The vocabulary and the contracts of temporal graph networks with memory.
//!
//! Two nouns, two verbs. A [`Model`] is what was learned; a [`History`] is the state that past events left.
//! [`History::view`] reads the past of some nodes, strictly before each query's time. [`History::observe`] applies a
//! batch. `view` always comes before `observe`.
//!
//! | to | see |
//! |---|---|
//! | read a prepared set, or make one | [`Dataset`], [`EventLog`], [`prepare()`] |
//! | query pairs | [`Queries`], [`View`] |
//! | keep the state of past events | [`History`]: a [`Graph`] and [`Memories`], as a model's [`Needs`] say |
//! | draw a random number | [`Draw`] |
//! | draw negatives, and measure | [`NegativeSampler`], [`LinkAccumulator`] |
//! | store arrays | [`Store`] |
//!
//! The book: [History](../../../docs/src/design/history.md), [Evaluation](../../../docs/src/design/evaluation.md),
//! [Determinism](../../../docs/src/design/determinism.md), [Files](../../../docs/src/design/formats.md),
//! [Read another format](../../../docs/src/extend/reader.md).
//!
//! Legend: `B` events of a batch, `R` roots, `P` pairs, `K` neighbours, `U` distinct nodes of a view, `N` nodes, `D`
//! memory, `E` edge features, `F` node features, `T` time features, `O` embedding.
//!
//! ```
//! use tempograph_framework::{Dataset, Draw, Features, History, Needs, Purpose, Queries, Update};
//!
//! let set = Dataset::from_spec("synthetic:events=100,users=8,items=5")?;
//! let needs = Needs { neighbours: 4, layers: 1, pairs: true, ..Needs::nothing() };
//! let mut history = History::new(set.nodes, needs, set.log.time()[0], Features::default());
//!
//! let chance = Draw::new(0).of(Purpose::Sampling);
//! for start in (0..100).step_by(10) {
//!     let batch = set.log.batch(start..start + 10);
//!     let queries = Queries::of_batch(&batch, &[], &[0; 11]);
//!     let view = history.view(&queries, Some(&batch), chance);
//!     assert_eq!(view.pairs.len(), 10);
//!     history.observe(&batch, &Update::none())?;
//! }
//! assert_eq!(history.seen(), 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
mod dataset;
mod draw;
mod history;
mod ids;
mod log;
mod metrics;
mod model;
mod negatives;
mod settings;
mod storage;

pub use dataset::inductive::{HeldOut, NewNodes, hold_out_nodes};
pub use dataset::prepare::{
    ColumnRoles, Delimiter, Encoding, Format, Missing, PrepareError, PrepareOptions, Prepared, Progress, Reading,
    UnknownFormat, prepare, prepare_files,
};
pub use dataset::static_memory::{StaticMemory, StaticMemoryError, StaticOrigin};
pub use dataset::synthetic::{SyntheticError, SyntheticSpec};
pub use dataset::{
    Dataset, DatasetContent, DatasetError, Extras, IdMap, Side, Sides, Split, SplitError, Table, TableError, TimeUnit,
    UnknownId, UnknownName,
};
pub use draw::{Draw, Purpose, PurposeDraw, RandomNumbers};
pub use history::change::change_detector::ChangeDetector;
pub use history::change::undo::UndoLog;
pub use history::change::waves::Waves;
#[cfg(feature = "cube")]
pub use history::device::device_or_host::{DeviceOrHostHistory, HostHistory, Placement, UpdateDownload};
#[cfg(feature = "cube")]
pub use history::device::resident::{HostFallback, ResidentHistory};
#[cfg(feature = "cube")]
pub use history::device::view_upload::{DeviceViewSource, HostViewSource};
pub use history::graph::Graph;
pub use history::graph::receivers::NeighbourMail;
pub use history::memory::Memories;
pub use history::persist::extent::{ListCursor, SnapshotExtent};
pub use history::view::needs::{
    Combine, Delta, Lookup, MailContent, MailRule, Needs, OtherMemory, Receivers, Sampler, WalkRule, WindowSpec,
};
pub use history::view::pair_fact::{PairFact, Recency};
pub use history::view::queries::{Pair, Queries};
pub use history::view::update::{ObserveError, Update};
pub use history::view::window::Window;
pub use history::view::{Hop, MailView, ManyMails, View};
pub use history::{Features, History};
pub use ids::{EventId, NodeId, Timestamp};
pub use log::captured::{Captured, captured_shares};
pub use log::{Batch, Event, EventLog, LogError};
pub use metrics::{
    LinkAccumulator, LinkMetrics, MetricError, ScoredBatch, TiePolicy, average_precision, hits_at, mrr, rank, roc_auc,
};
pub use model::executor::{
    DeviceExecutor, Executor, LaneBatch, LaneGradients, LanePool, RowLabels, RowTargets, Scorer, SliceExecutor,
    TensorExecutor, TensorScorer, link_loss, link_loss_on_slices, row_loss, row_loss_on_slices,
};
pub use model::parameters::{Parameter, Parameters};
pub use model::resident::{DeviceGradients, DeviceModel, ResidentModel};
pub use model::slices::{ForwardOutput, SliceModel};
pub use model::weights::{ModulePath, values, weights, with_parameters, with_weights};
pub use model::{Forward, Model};
pub use negatives::{
    BatchNegatives, Candidates, FixedNegatives, NegativeRule, NegativeSampler, NegativeSet, NegativesError,
    tgb_negatives,
};
pub use settings::count::counted;
pub use settings::nearest::nearest;
pub use settings::toml::{apply_override, explain_toml};
pub use storage::partitioned_map::PartitionedMap;
pub use storage::shared::{SharedArena, SharedMemory};
pub use storage::store::{Array, Element, Store, StoreError, sha256_hex, write_atomic, write_atomic_with};
pub use storage::store_parts::StoreParts;
