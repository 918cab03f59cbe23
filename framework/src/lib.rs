//! The vocabulary and the contracts of temporal graph networks with memory.
//!
//! Two nouns, two verbs. A [`Model`] is what was learned; a [`History`] is what has happened. [`History::view`] reads the past of
//! some nodes, strictly before each query's time; [`History::observe`] lets a batch happen. `view` comes first, always.
//!
//! Legend: `B` events of a batch, `R` roots, `P` pairs, `K` neighbours, `U` distinct nodes of a view, `N` nodes, `D` memory,
//! `E` edge features, `F` node features, `T` time features, `O` embedding.
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
mod adjacency;
mod ahead;
mod buffer;
mod captured;
mod column;
mod dataset;
mod draw;
mod earlier;
mod events;
mod executor;
mod extent;
mod facts;
mod forget;
mod graph;
mod history;
#[cfg(test)]
mod history_tests;
mod ids;
mod inductive;
mod look;
mod mailbox;
mod memories;
mod metrics;
mod model;
mod nearest;
mod needs;
mod negatives;
mod neighbour_mail;
#[cfg(feature = "cube")]
mod on_device;
mod pairs;
mod parameters;
mod parted;
#[cfg(feature = "cube")]
mod placed;
mod places;
mod prepare;
mod present;
mod queries;
mod reach;
mod read_mail;
mod resident;
mod retract;
#[cfg(feature = "cube")]
mod sent;
mod settings;
mod shared;
mod slice_model;
mod snapshot;
mod standing;
mod static_memory;
mod store;
mod store_parts;
mod synthetic;
mod tcsr;
mod together;
mod view;
mod view_store;
mod walks;
mod waves;
mod weights;

pub use captured::{Captured, captured};
pub use dataset::{
    Content, Dataset, DatasetError, IdMap, Side, Sides, Split, SplitError, Table, TableError, TimeUnit, UnknownId,
};
pub use draw::{Draw, Purpose, PurposeDraw, RandomNumbers};
pub use earlier::Earlier;
pub use events::{Batch, Event, EventLog, LogError};
pub use executor::{
    DeviceExecutor, Executor, LaneBatch, LaneGradients, LanePool, Scorer, SliceExecutor, TensorExecutor, TensorScorer,
    link_loss, link_loss_on_slices,
};
pub use extent::{Extent, ListPlace};
pub use graph::Graph;
pub use history::{Features, History, ObserveError};
pub use ids::{EventId, NodeId, Timestamp};
pub use inductive::{HeldOut, NewNodes, hold_out_nodes};
pub use memories::Memories;
pub use metrics::{
    LinkAccumulator, LinkMetrics, MetricError, Scored, Ties, average_precision, hits_at, mrr, rank, roc_auc,
};
pub use model::{Forward, Model, Update};
pub use nearest::nearest;
pub use needs::{Combine, Delta, Lookup, MailRule, Needs, OtherMemory, Receivers, Sampler, Says, WalkRule};
pub use negatives::{
    BatchNegatives, Candidates, FixedNegatives, NegativeRule, NegativeSampler, NegativeSet, NegativesError,
    TgbNegatives,
};
pub use neighbour_mail::NeighbourMail;
#[cfg(feature = "cube")]
pub use on_device::{OffDevice, ResidentHistory};
pub use pairs::{PairFact, Recency};
pub use parameters::{Parameter, Parameters};
pub use parted::PartedMap;
#[cfg(feature = "cube")]
pub use placed::{ArrivingUpdate, PlacedHistory, Placement, SentHistory};
pub use prepare::{Format, PrepareError, PrepareOptions, Progress, UnknownFormat, prepare};
pub use queries::{Pair, Queries};
pub use reach::Reach;
pub use resident::{DeviceModel, Gradients, ResidentModel};
#[cfg(feature = "cube")]
pub use sent::{PastSource, ViewSender};
pub use settings::{explain_toml, lay_over};
pub use shared::{Room, Shared};
pub use slice_model::{Answer, SliceModel};
pub use static_memory::{StaticMemory, StaticMemoryError, StaticOrigin};
pub use store::{Array, Element, Store, StoreError, sha256_hex, write_whole};
pub use store_parts::StoreParts;
pub use synthetic::{SyntheticError, SyntheticSpec};
pub use view::{Hop, MailView, ManyMails, View};
pub use waves::Waves;
pub use weights::{Path, values, weights, with_parameters, with_weights};
