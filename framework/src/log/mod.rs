//! The event log: timed interactions in columns, sorted by (time, id).
pub(crate) mod by_node;
pub(crate) mod captured;
pub(crate) mod link;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use tempograph_kernels::Rows;

use crate::log::by_node::TemporalCsr;
use crate::storage::column::Column;
use crate::storage::shared::SharedArena;
use crate::{EventId, NodeId, Timestamp};

/// One timed interaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Position in the log.
    pub id: EventId,
    /// The source, which acts.
    pub src: NodeId,
    /// The destination, which is acted on.
    pub dst: NodeId,
    /// Time in ticks.
    pub time: Timestamp,
    /// The dataset's label of the event; 0 if it has none.
    pub label: f32,
}

/// A log of events sorted by (time, id), where an event's id is its position.
///
/// The columns are owned or lie in a mapped file; a clone shares them.
#[derive(Clone, Debug)]
pub struct EventLog {
    columns: Arc<Columns>,
}

#[derive(Debug)]
pub(crate) struct Columns {
    pub(crate) src: Column<NodeId>,
    pub(crate) dst: Column<NodeId>,
    pub(crate) time: Column<Timestamp>,
    pub(crate) label: Column<f32>,
    pub(crate) features: Option<Arc<dyn Rows>>,
    pub(crate) destinations: OnceLock<Vec<NodeId>>,
    pub(crate) by_node: OnceLock<Arc<TemporalCsr>>,
}

/// Consecutive events of a log, by column.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Id of the first event; the others follow it.
    pub first: EventId,
    /// Sources, `[B]`.
    pub src: &'a [NodeId],
    /// Destinations, `[B]`.
    pub dst: &'a [NodeId],
    /// Times in ticks, `[B]`, never decreasing.
    pub time: &'a [Timestamp],
    /// Labels, `[B]`.
    pub label: &'a [f32],
}

/// Columns that are not an event log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The columns differ in length.
    #[error(
        "columns of an event log differ in length: {src} sources, {dst} destinations, {time} times, {label} labels"
    )]
    Lengths {
        /// Sources.
        src: usize,
        /// Destinations.
        dst: usize,
        /// Times.
        time: usize,
        /// Labels.
        label: usize,
    },
    /// Times decrease.
    #[error("event {event} at t={time} comes after t={previous}")]
    Unsorted {
        /// The first event that is earlier than the one before it.
        event: usize,
        /// Its time.
        time: Timestamp,
        /// The time before it.
        previous: Timestamp,
    },
}

impl EventLog {
    /// A log of owned columns, which must be equally long and sorted by time. Row `i` of `features` belongs to event
    /// `i`.
    pub fn new(
        src: Vec<NodeId>,
        dst: Vec<NodeId>,
        time: Vec<Timestamp>,
        label: Vec<f32>,
        features: Option<Arc<dyn Rows>>,
    ) -> Result<Self, LogError> {
        Self::from_columns(Columns {
            src: src.into(),
            dst: dst.into(),
            time: time.into(),
            label: label.into(),
            features,
            destinations: OnceLock::new(),
            by_node: OnceLock::new(),
        })
    }

    pub(crate) fn from_columns(columns: Columns) -> Result<Self, LogError> {
        let (src, dst, time, label) = (columns.src.len(), columns.dst.len(), columns.time.len(), columns.label.len());
        if [dst, time, label] != [src; 3] {
            return Err(LogError::Lengths { src, dst, time, label });
        }
        if let Some(at) = columns.time.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(LogError::Unsorted { event: at + 1, time: columns.time[at + 1], previous: columns.time[at] });
        }
        Ok(Self { columns: Arc::new(columns) })
    }

    /// Events in the log.
    pub fn len(&self) -> usize {
        self.columns.time.len()
    }

    /// Whether the log has no events.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One event. Panics on an id that is not in the log.
    pub fn event(&self, id: EventId) -> Event {
        self.batch(id.index()..id.index() + 1).event(0)
    }

    /// Source of every event.
    pub fn src(&self) -> &[NodeId] {
        &self.columns.src
    }

    /// Destination of every event.
    pub fn dst(&self) -> &[NodeId] {
        &self.columns.dst
    }

    /// Time of every event in ticks, never decreasing.
    pub fn time(&self) -> &[Timestamp] {
        &self.columns.time
    }

    /// Label of every event.
    pub fn label(&self) -> &[f32] {
        &self.columns.label
    }

    /// Feature rows by event id, for logs that have features.
    pub fn features(&self) -> Option<&Arc<dyn Rows>> {
        self.columns.features.as_ref()
    }

    /// The events of `range`. Panics if it is outside the log.
    pub fn batch(&self, range: Range<usize>) -> Batch<'_> {
        Batch {
            first: EventId(range.start as u64),
            src: &self.src()[range.clone()],
            dst: &self.dst()[range.clone()],
            time: &self.time()[range.clone()],
            label: &self.label()[range],
        }
    }

    /// Every distinct destination of the whole log in ascending order: negatives are drawn from these. Computed on the
    /// first call.
    pub fn destinations(&self) -> &[NodeId] {
        self.columns.destinations.get_or_init(|| {
            let highest = self.dst().iter().max().map_or(0, |node| node.index() + 1);
            let mut seen = vec![false; highest];
            self.dst().iter().for_each(|node| seen[node.index()] = true);
            (0..highest as u32).map(NodeId).filter(|node| seen[node.index()]).collect()
        })
    }

    /// Bytes of shared memory that the log takes when it is sorted by node.
    pub fn needed_by_node(&self) -> usize {
        TemporalCsr::needed(self)
    }

    /// Sorts the log by node in shared memory, for all histories that [attach](crate::History::attach_log) it. With
    /// `sorted` it uses what another process has sorted there. Does nothing if the log has been sorted before.
    ///
    /// # Panics
    /// If the arena is smaller than [`needed_by_node`](EventLog::needed_by_node).
    pub fn sort_by_node(&self, mut room: SharedArena, sorted: bool) {
        self.columns.by_node.get_or_init(|| Arc::new(TemporalCsr::in_room(self, &mut room, sorted)));
    }

    /// Bytes of the log sorted by node; 0 until it is first used.
    pub fn bytes_by_node(&self) -> usize {
        self.columns.by_node.get().map_or(0, |sorted| sorted.bytes())
    }

    /// The whole log by node. Sorted on the first call.
    pub(crate) fn by_node(&self) -> &Arc<TemporalCsr> {
        self.columns.by_node.get_or_init(|| Arc::new(TemporalCsr::of(self)))
    }
}

impl<'a> Batch<'a> {
    /// Events in the batch.
    pub fn len(&self) -> usize {
        self.src.len()
    }

    /// Whether the batch holds no event.
    pub fn is_empty(&self) -> bool {
        self.src.is_empty()
    }

    /// Id of the batch's `i`-th event.
    pub fn id(&self, i: usize) -> EventId {
        EventId(self.first.0 + i as u64)
    }

    /// The batch's `i`-th event.
    pub fn event(&self, i: usize) -> Event {
        Event { id: self.id(i), src: self.src[i], dst: self.dst[i], time: self.time[i], label: self.label[i] }
    }

    /// The events in order.
    pub fn events(self) -> impl ExactSizeIterator<Item = Event> + 'a {
        (0..self.len()).map(move |i| self.event(i))
    }

    /// The first `events` of its events.
    pub(crate) fn first_events(&self, events: usize) -> Batch<'a> {
        Batch {
            first: self.first,
            src: &self.src[..events],
            dst: &self.dst[..events],
            time: &self.time[..events],
            label: &self.label[..events],
        }
    }

    /// The nodes it touches, ascending, into `nodes`.
    pub fn nodes_into(&self, nodes: &mut Vec<NodeId>) {
        nodes.clear();
        nodes.extend(self.src.iter().chain(self.dst));
        nodes.sort_unstable();
        nodes.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(times: &[i64]) -> Result<EventLog, LogError> {
        let n = times.len() as u32;
        let src = (0..n).map(NodeId).collect();
        let dst = (0..n).map(|i| NodeId(10 - 2 * (i % 3))).collect();
        EventLog::new(src, dst, times.iter().copied().map(Timestamp).collect(), vec![0.5; times.len()], None)
    }

    #[test]
    fn a_batch_numbers_its_events_as_the_log_does() {
        let log = log(&[1, 2, 2, 9]).unwrap();
        let batch = log.batch(1..4);
        assert_eq!(batch.events().collect::<Vec<_>>(), (1..4).map(|i| log.event(EventId(i))).collect::<Vec<_>>());
        assert_eq!((batch.len(), batch.id(2)), (3, EventId(3)));
    }

    #[test]
    fn destinations_are_distinct_and_ascending() {
        assert_eq!(log(&[0, 0, 0, 0, 0]).unwrap().destinations(), [NodeId(6), NodeId(8), NodeId(10)]);
    }

    #[test]
    fn a_log_out_of_order_is_refused_with_the_event() {
        let error = log(&[4, 7, 5]).unwrap_err();
        assert_eq!(error.to_string(), "event 2 at t=5 comes after t=7");
    }

    #[test]
    fn columns_of_different_lengths_are_refused() {
        let error = EventLog::new(vec![NodeId(0)], vec![], vec![], vec![], None).unwrap_err();
        assert!(error.to_string().contains("1 sources, 0 destinations"), "{error}");
    }
}
