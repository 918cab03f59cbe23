//! Models of temporal graphs, one paper a file.
//!
//! [`Tgn`] is trained and served; [`Heuristic`] is the floor it is measured against.
mod heuristics;
mod layers;
mod tgn;

pub use heuristics::Heuristic;
pub use tgn::{Attention, Embedding, FeatureWidths, Message, Tgn, TgnSpec, TimeInit, Updater};
