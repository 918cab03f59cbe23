//! The destinations that each event's negatives may be drawn from, looked up without reading the log again.
use rayon::prelude::*;

use crate::negatives::NegativesError;
use crate::storage::buffer::{AnyBuffer, Buffer};
use crate::storage::shared::SharedArena;
use crate::{EventId, NodeId, Timestamp};

/// An index over a log: the candidates for an event's negative destinations.
///
/// It has the set of all destinations and, for every source, the distinct destinations it has met in the order of
/// their first meeting. Whatever was first met before some event is then a prefix, so a query is a binary search and
/// never reads the future.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// Every node that is a destination somewhere in the log, ascending.
    destinations: Buffer<NodeId>,
    /// First event that is not for training.
    train_end: u32,
    /// One row for each event of the log.
    rows: Buffer<Row>,
    /// The events of each source, in order: those of `s` are `events[event_offsets[s]..event_offsets[s + 1]]`.
    event_offsets: Buffer<u32>,
    events: Buffer<u32>,
    /// The distinct destinations of each source in order of first meeting, laid out likewise.
    met_offsets: Buffer<u32>,
    met: Buffer<FirstMeeting>,
}

/// Numbers before the tables in shared memory: the first event that is not for training, and the length of each.
const SIZES: usize = 7;

/// The stored facts of an event.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Row {
    src: NodeId,
    dst: NodeId,
    /// First event of the same time.
    tie_start: u32,
    /// Position of the destination among those its source has met.
    rank: u32,
}

/// A destination and the event at which its source first met it.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct FirstMeeting {
    first: u32,
    dst: NodeId,
}

/// In which period a destination must have been met first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetWhen {
    /// During training.
    InTraining,
    /// After training.
    AfterTraining,
}

/// Destinations that a source met before some time and does not meet at that time.
#[derive(Debug)]
pub(super) struct PastDestinations<'a> {
    met: &'a [FirstMeeting],
    /// Positions in `met` that are met again at the present time, ascending.
    present: Vec<u32>,
}

impl Candidates {
    /// Indexes a log. `src`, `dst` and `time` are its columns, sorted by time; `train_end` is the first event that is
    /// not for training.
    ///
    /// # Errors
    /// When the columns differ in length, are not sorted, or are too long.
    pub fn build(
        src: &[NodeId],
        dst: &[NodeId],
        time: &[Timestamp],
        train_end: EventId,
    ) -> Result<Self, NegativesError> {
        if src.len() != dst.len() || src.len() != time.len() {
            return Err(NegativesError::Lengths { src: src.len(), dst: dst.len(), time: time.len() });
        }
        let count = u32::try_from(src.len()).map_err(|_| NegativesError::TooManyEvents { events: src.len() })?;
        if let Some(before) = time.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(NegativesError::Unsorted { event: EventId(before as u64 + 1) });
        }
        let (event_offsets, events) = events_by_source(src);
        let spans: Vec<&[u32]> =
            event_offsets.windows(2).map(|pair| &events[pair[0] as usize..pair[1] as usize]).collect();
        let meetings: Vec<Vec<Vec<u32>>> = spans.par_iter().map(|span| group_by_destination(span, dst)).collect();

        let mut rows = tied_rows(src, dst, time);
        let (mut met_offsets, mut met) = (vec![0], Vec::new());
        for groups in meetings {
            for (rank, group) in groups.iter().enumerate() {
                met.push(FirstMeeting { first: group[0], dst: dst[group[0] as usize] });
                for &event in group {
                    rows[event as usize].rank = rank as u32;
                }
            }
            met_offsets.push(met.len() as u32);
        }
        let train_end = u32::try_from(train_end.0).unwrap_or(count).min(count);
        Ok(Self {
            destinations: distinct(dst).into(),
            train_end,
            rows: rows.into(),
            event_offsets: event_offsets.into(),
            events: events.into(),
            met_offsets: met_offsets.into(),
            met: met.into(),
        })
    }

    /// Bytes of shared memory that it takes.
    pub fn needed(&mut self) -> usize {
        SharedArena::needed::<u64>(SIZES) + self.tables().iter().map(|table| table.needed(table.held())).sum::<usize>()
    }

    /// Moves the index to `room`, where other processes [open](Candidates::in_room) it.
    ///
    /// # Panics
    /// If the arena is smaller than [`needed`](Candidates::needed).
    pub fn enter(&mut self, mut room: SharedArena) {
        let mut sizes = room.part::<u64>(SIZES);
        sizes[0] = u64::from(self.train_end);
        for (table, size) in self.tables().into_iter().zip(&mut sizes[1..]) {
            *size = table.held() as u64;
            table.move_into(&mut room, *size as usize, true);
        }
    }

    /// The index that another process has moved to `room`.
    ///
    /// # Panics
    /// If there is none.
    pub fn in_room(mut room: SharedArena) -> Candidates {
        let sizes = room.part::<u64>(SIZES);
        let mut found = Candidates { train_end: sizes[0] as u32, ..Candidates::default() };
        found
            .tables()
            .into_iter()
            .zip(&sizes[1..])
            .for_each(|(table, &size)| table.move_into(&mut room, size as usize, false));
        found
    }

    fn tables(&mut self) -> [&mut dyn AnyBuffer; SIZES - 1] {
        let Candidates { destinations, rows, event_offsets, events, met_offsets, met, .. } = self;
        [destinations, rows, event_offsets, events, met_offsets, met]
    }

    /// Every node that is a destination somewhere in the log, ascending. Validation and test included, as in the codes
    /// this is compared with.
    pub fn destinations(&self) -> &[NodeId] {
        &self.destinations
    }

    /// Number of events indexed.
    pub fn events(&self) -> usize {
        self.rows.len()
    }

    /// The destination of an event.
    pub(super) fn destination(&self, event: EventId) -> Result<NodeId, NegativesError> {
        self.row(event).map(|row| row.dst)
    }

    /// What the source of `event` met strictly before the time of `event`.
    pub(super) fn past(&self, event: EventId, met: MetWhen) -> Result<PastDestinations<'_>, NegativesError> {
        let row = self.row(event)?;
        let all = span(&self.met_offsets, &self.met, row.src);
        let before = |limit: u32| all.partition_point(|meeting| meeting.first < limit);
        let range = match met {
            MetWhen::InTraining => 0..before(row.tie_start.min(self.train_end)),
            MetWhen::AfterTraining => before(self.train_end)..before(row.tie_start).max(before(self.train_end)),
        };
        Ok(PastDestinations { present: self.present(row, &range), met: &all[range] })
    }

    /// Positions within `range` of the destinations that the source of `row` meets at the time of `row`, counted from
    /// the range's start.
    fn present(&self, row: Row, range: &std::ops::Range<usize>) -> Vec<u32> {
        let events = span(&self.event_offsets, &self.events, row.src);
        let tied = events[events.partition_point(|&event| event < row.tie_start)..]
            .iter()
            .map(|&event| self.rows[event as usize]);
        let ranks = tied.take_while(|other| other.tie_start == row.tie_start).map(|other| other.rank as usize);
        let mut present: Vec<u32> =
            ranks.filter(|rank| range.contains(rank)).map(|rank| (rank - range.start) as u32).collect();
        present.sort_unstable();
        present.dedup();
        present
    }

    fn row(&self, event: EventId) -> Result<Row, NegativesError> {
        let unknown = NegativesError::UnknownEvent { event, first: EventId(0), end: EventId(self.rows.len() as u64) };
        self.rows.get(event.index()).copied().ok_or(unknown)
    }
}

impl PastDestinations<'_> {
    /// How many destinations there are.
    pub(super) fn len(&self) -> u32 {
        (self.met.len() - self.present.len()) as u32
    }

    /// The destination at `place`, for `place < len()`.
    pub(super) fn get(&self, place: u32) -> NodeId {
        let skipped = self.present.iter().zip(0..).take_while(|&(&present, before)| present <= place + before).count();
        self.met[place as usize + skipped].dst
    }
}

/// The part of `items` that belongs to `node`.
fn span<'a, T>(offsets: &[u32], items: &'a [T], node: NodeId) -> &'a [T] {
    &items[offsets[node.index()] as usize..offsets[node.index() + 1] as usize]
}

/// Counting sort of events by source.
fn events_by_source(src: &[NodeId]) -> (Vec<u32>, Vec<u32>) {
    let nodes = src.iter().max().map_or(0, |node| node.index() + 1);
    let mut offsets = vec![0u32; nodes + 1];
    for node in src {
        offsets[node.index() + 1] += 1;
    }
    for node in 0..nodes {
        offsets[node + 1] += offsets[node];
    }
    let (mut next, mut events) = (offsets.clone(), vec![0; src.len()]);
    for (event, node) in src.iter().enumerate() {
        events[next[node.index()] as usize] = event as u32;
        next[node.index()] += 1;
    }
    (offsets, events)
}

/// One source's events grouped by destination, groups in the order of their first event, events ascending.
fn group_by_destination(events: &[u32], dst: &[NodeId]) -> Vec<Vec<u32>> {
    let mut sorted = events.to_vec();
    sorted.sort_unstable_by_key(|&event| (dst[event as usize], event));
    let mut groups: Vec<Vec<u32>> =
        sorted.chunk_by(|&a, &b| dst[a as usize] == dst[b as usize]).map(<[u32]>::to_vec).collect();
    groups.sort_unstable_by_key(|group| group[0]);
    groups
}

/// A row for each event, its rank not set yet.
fn tied_rows(src: &[NodeId], dst: &[NodeId], time: &[Timestamp]) -> Vec<Row> {
    let mut rows = Vec::with_capacity(src.len());
    let mut tie_start = 0;
    for event in 0..src.len() {
        if event > 0 && time[event] != time[event - 1] {
            tie_start = event as u32;
        }
        rows.push(Row { src: src[event], dst: dst[event], tie_start, rank: 0 });
    }
    rows
}

fn distinct(nodes: &[NodeId]) -> Vec<NodeId> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::sampler::tests::{Log, logs};
    use proptest::prelude::*;

    /// The definition, by reading the log: destinations met before the event's time, first in (or after) training, and
    /// not at the event's time.
    fn brute_force(log: &Log, event: usize, met: MetWhen) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = Vec::new();
        for earlier in 0..log.src.len() {
            let same_source = log.src[earlier] == log.src[event];
            if !same_source || log.time[earlier] >= log.time[event] || found.contains(&log.dst[earlier]) {
                continue;
            }
            let first =
                (0..log.src.len()).find(|&i| log.src[i] == log.src[event] && log.dst[i] == log.dst[earlier]).unwrap();
            let now = (0..log.src.len()).any(|i| {
                log.time[i] == log.time[event] && log.src[i] == log.src[event] && log.dst[i] == log.dst[earlier]
            });
            if (first < log.train_end) == (met == MetWhen::InTraining) && !now {
                found.push(log.dst[earlier]);
            }
        }
        found
    }

    proptest! {
        #[test]
        fn the_past_of_every_event_is_what_reading_the_log_gives(log in logs()) {
            let candidates = log.candidates();
            for event in 0..log.src.len() {
                for met in [MetWhen::InTraining, MetWhen::AfterTraining] {
                    let past = candidates.past(EventId(event as u64), met).unwrap();
                    let places: Vec<NodeId> = (0..past.len()).map(|place| past.get(place)).collect();
                    prop_assert_eq!(places, brute_force(&log, event, met));
                }
            }
        }

        #[test]
        fn an_index_in_shared_memory_is_the_index(log in logs()) {
            let mut index = log.candidates();
            let stated = format!("{index:?}");
            let Ok(shared) = crate::SharedMemory::zeros(index.needed()) else { return Ok(()) };
            // SAFETY: only this thread has it, and nothing is written after `enter`.
            index.enter(unsafe { shared.arena() });
            let found = Candidates::in_room(unsafe { shared.arena() });
            prop_assert_eq!([format!("{index:?}"), format!("{found:?}")], [stated.clone(), stated]);
        }

        #[test]
        fn the_past_does_not_change_when_the_future_does(log in logs(), cut in 0usize..40) {
            let cut = cut.min(log.src.len());
            let mut shorter = log.clone();
            // Events of one time see each other, so the future starts at the next time.
            let end = (cut..log.src.len()).find(|&i| i > 0 && log.time[i] != log.time[i - 1]).unwrap_or(log.src.len());
            shorter.src.truncate(end);
            shorter.dst.truncate(end);
            shorter.time.truncate(end);
            let (whole, shorter) = (log.candidates(), shorter.candidates());
            for event in (0..end as u64).map(EventId) {
                for met in [MetWhen::InTraining, MetWhen::AfterTraining] {
                    let (a, b) = (whole.past(event, met).unwrap(), shorter.past(event, met).unwrap());
                    prop_assert_eq!(a.len(), b.len());
                    prop_assert!((0..a.len()).all(|place| a.get(place) == b.get(place)));
                }
            }
        }
    }

    #[test]
    fn a_log_that_is_not_a_log_is_refused() {
        let nodes = [NodeId(0), NodeId(1)];
        let unsorted = Candidates::build(&nodes, &nodes, &[Timestamp(4), Timestamp(3)], EventId(1)).unwrap_err();
        assert_eq!(unsorted.to_string(), "event 1 is earlier than the one before it");
        assert!(matches!(
            Candidates::build(&nodes, &nodes[..1], &[Timestamp(4)], EventId(1)),
            Err(NegativesError::Lengths { .. })
        ));
        assert_eq!(Candidates::build(&[], &[], &[], EventId(0)).unwrap().destinations(), &[]);
    }
}
