//! The vocabulary and the contracts of temporal graph networks with memory.
mod column;
mod dataset;
mod events;
mod ids;
mod nearest;
mod prepare;
mod synthetic;

pub use dataset::{Content, Dataset, DatasetError, IdMap, Side, Sides, Split, SplitError, Table, TableError, TimeUnit, UnknownId};
pub use events::{Batch, Event, EventLog, LogError};
pub use ids::{EventId, NodeId, Timestamp};
pub use nearest::nearest;
pub use prepare::{Format, PrepareError, PrepareOptions, Progress, UnknownFormat, prepare};
pub use synthetic::{SyntheticError, SyntheticSpec};
