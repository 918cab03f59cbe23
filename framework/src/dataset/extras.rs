//! What else is known of the events of a dataset: names of features, classes, targets, ends.

use tempograph_kernels::Rows;

use crate::Timestamp;
use crate::dataset::Table;
use crate::storage::column::Column;

/// What is known of the events beside source, destination, time, label and features. All of it may be empty.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// The name of each column of the events' features, `[E]`.
    pub features: Vec<String>,
    /// The classes that the labels 0, 1, 2 … stand for.
    pub classes: Vec<String>,
    /// The name of each column of the targets, `[T]`.
    pub target_names: Vec<String>,
    /// Numbers to predict of each event, `[events, T]`.
    pub targets: Option<Table>,
    pub(crate) end: Option<Column<Timestamp>>,
}

impl Extras {
    /// When the edge of each event ends, `[events]`, where they do.
    pub fn end(&self) -> Option<&[Timestamp]> {
        self.end.as_deref()
    }

    /// The same, with the time at which the edge of each event ends.
    pub fn with_end(self, end: Vec<Timestamp>) -> Self {
        Self { end: Some(end.into()), ..self }
    }

    /// The first contradiction with a log of so many events with so many features.
    pub(crate) fn check(&self, events: usize, width: usize) -> Result<(), String> {
        if !self.features.is_empty() && self.features.len() != width {
            return Err(format!("{} names of features, but {width} features", self.features.len()));
        }
        if let Some(targets) = self.targets.as_ref().filter(|targets| targets.rows() != events) {
            return Err(format!("{} rows of targets for {events} events", targets.rows()));
        }
        let targets = self.targets.as_ref().map_or(0, Rows::width);
        if !self.target_names.is_empty() && self.target_names.len() != targets {
            return Err(format!("{} names of targets, but {targets} targets", self.target_names.len()));
        }
        match &self.end {
            Some(end) if end.len() != events => Err(format!("{} ends of edges for {events} events", end.len())),
            _ => Ok(()),
        }
    }
}
