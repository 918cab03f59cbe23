//! Tests the kinds of models: they agree with public implementations, their slices agree with the tape, and errors are
//! sentences.
#![allow(clippy::unwrap_used, reason = "tests")]

mod golden;
mod heads;
mod pairs;
mod row_model;
mod says;
mod sentences;
mod streams;
mod tape;

use streams::{NODES, batch_queries, batch_ranges, features, stream, variants};
