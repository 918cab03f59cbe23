//! Constant features of events and nodes, in stores that grow while other threads read them.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;
use tempograph_framework::Table;
use tempograph_kernels::Rows;

/// Rows of the first bucket; each next bucket has twice as many.
const FIRST_BUCKET: usize = 1024;
/// Bytes of rows that are appended before it is worth looking for those that are not needed any more.
const LEAST_SWEPT: usize = 1 << 20;
/// Number of buckets; enough for any number of events.
const BUCKETS: usize = 48;

/// Edge features by event id: the rows of an artifact, and those of the events since.
///
/// A stored row never moves, so rows are appended while others are read. Rows are not deleted one by one: once more rows
/// were appended than are needed, the needed ones are copied to a new store, and this one is given
/// back when nobody reads it any more.
#[derive(Debug)]
pub struct EdgeStore {
    width: usize,
    kept: FxHashMap<u64, u32>,
    /// `[kept, E]`.
    kept_rows: Vec<f32>,
    /// Id of the first event after those of the artifact.
    first: u64,
    /// Rows since.
    appended: AtomicUsize,
    buckets: [OnceLock<Bucket>; BUCKETS],
}

/// Rows that are each written once.
#[derive(Debug)]
struct Bucket {
    width: usize,
    /// `[rows, width]`
    numbers: Box<[UnsafeCell<f32>]>,
    /// Which rows are written.
    written: Box<[OnceLock<()>]>,
}

// SAFETY: a row is written under its own `OnceLock`, by one thread, before any thread reads it, and never again.
unsafe impl Sync for Bucket {}

impl Bucket {
    fn new(rows: usize, width: usize) -> Bucket {
        let zeros = vec![0.0f32; rows * width].into_boxed_slice();
        // SAFETY: an `UnsafeCell<f32>` has the memory layout of an `f32`.
        let numbers = unsafe { Box::from_raw(Box::into_raw(zeros) as *mut [UnsafeCell<f32>]) };
        Bucket { width, numbers, written: (0..rows).map(|_| OnceLock::new()).collect() }
    }

    fn cells(&self, slot: usize) -> &[UnsafeCell<f32>] {
        &self.numbers[slot * self.width..][..self.width]
    }

    /// Writes a row. An error means that it was written before.
    fn set(&self, slot: usize, row: &[f32]) -> Result<(), ()> {
        let mut first = false;
        self.written[slot].get_or_init(|| {
            first = true;
            for (cell, &number) in self.cells(slot).iter().zip(row) {
                // SAFETY: the lock admits one thread, once, and no thread reads the row before it is released.
                unsafe { *cell.get() = number };
            }
        });
        if first { Ok(()) } else { Err(()) }
    }

    fn get(&self, slot: usize) -> Option<&[f32]> {
        self.written[slot].get()?;
        let cells = self.cells(slot);
        // SAFETY: the row is written, which is done once. From now on it is only read.
        Some(unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) })
    }
}

impl EdgeStore {
    /// A store of rows of `width`: those of the events `kept`, and then those that are appended, from event `first` on.
    ///
    /// # Panics
    /// If `rows` is not `[kept, width]`.
    pub fn new(width: usize, kept: &[u64], rows: Vec<f32>, first: u64) -> EdgeStore {
        assert_eq!(rows.len(), kept.len() * width, "values of {} rows of width {width}", kept.len());
        EdgeStore {
            width,
            kept: kept.iter().enumerate().map(|(at, &event)| (event, at as u32)).collect(),
            kept_rows: rows,
            first,
            appended: AtomicUsize::new(0),
            buckets: [const { OnceLock::new() }; BUCKETS],
        }
    }

    /// Stores the features of a new event.
    ///
    /// # Panics
    /// If the event is older than the store's first, already stored, or the row has another width.
    pub fn append(&self, event: u64, row: &[f32]) {
        assert!(event >= self.first && row.len() == self.width, "a row of width {} for event {event}", row.len());
        let (bucket, slot) = place((event - self.first) as usize);
        let rows = self.buckets[bucket].get_or_init(|| Bucket::new(FIRST_BUCKET << bucket, self.width));
        assert!(rows.set(slot, row).is_ok(), "the features of event {event} are stored already");
        self.appended.fetch_add(1, Relaxed);
    }

    /// Whether so many rows were appended that it is worth looking for those that are not needed any more.
    pub(crate) fn is_worth_sweeping(&self) -> bool {
        let row = 4 * self.width.max(1);
        self.appended.load(Relaxed) > self.kept.len().max(LEAST_SWEPT / row)
    }

    /// A store of the rows of `events`, which are here, for new rows from event `first` on.
    pub(crate) fn keeping(&self, events: &[u64], first: u64) -> EdgeStore {
        let rows = events.iter().flat_map(|&event| self.row(event)).copied().collect();
        EdgeStore::new(self.width, events, rows, first)
    }

    /// Bytes of its rows.
    pub fn bytes(&self) -> usize {
        4 * self.width * (self.kept.len() + self.appended.load(Relaxed))
    }

    /// Whether the artifact has a row of `event`.
    pub fn keeps(&self, event: u64) -> bool {
        event < self.first && self.kept.contains_key(&event)
    }

    fn find(&self, event: u64) -> Option<&[f32]> {
        match event.checked_sub(self.first) {
            Some(offset) => {
                let (bucket, slot) = place(offset as usize);
                self.buckets[bucket].get()?.get(slot)
            }
            None => self.kept.get(&event).map(|&at| &self.kept_rows[at as usize * self.width..][..self.width]),
        }
    }
}

impl Rows for EdgeStore {
    fn width(&self) -> usize {
        self.width
    }

    fn row(&self, event: u64) -> &[f32] {
        self.find(event).unwrap_or_else(|| panic!("no features are stored for event {event}"))
    }
}

/// Bucket of a row and the row's index in it.
fn place(row: usize) -> (usize, usize) {
    let bucket = (row / FIRST_BUCKET + 1).ilog2() as usize;
    (bucket, row - FIRST_BUCKET * ((1 << bucket) - 1))
}

/// Edge features as a request with events in `during` sees them. These events are not observed yet.
#[derive(Debug)]
pub(crate) struct FeaturesWithDuring {
    pub stored: Arc<EdgeStore>,
    /// Id of the first event in `during`.
    pub first: u64,
    pub brought: Table,
}

impl Rows for FeaturesWithDuring {
    fn width(&self) -> usize {
        self.stored.width
    }

    fn row(&self, event: u64) -> &[f32] {
        match event.checked_sub(self.first) {
            Some(offset) => self.brought.row(offset),
            None => self.stored.row(event),
        }
    }
}

/// Node features of the nodes of an artifact. Newer nodes have zeros.
#[derive(Debug)]
pub(crate) struct NodeFeatures {
    known: Table,
    unknown: Vec<f32>,
}

impl NodeFeatures {
    pub fn new(known: Table) -> NodeFeatures {
        NodeFeatures { unknown: vec![0.0; known.width()], known }
    }
}

impl Rows for NodeFeatures {
    fn width(&self) -> usize {
        self.known.width()
    }

    fn row(&self, node: u64) -> &[f32] {
        if (node as usize) < self.known.rows() { self.known.row(node) } else { &self.unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for row in 0..20 * FIRST_BUCKET {
            assert_eq!(place(row), expected, "row {row}");
            expected = if expected.1 + 1 == FIRST_BUCKET << expected.0 {
                (expected.0 + 1, 0)
            } else {
                (expected.0, expected.1 + 1)
            };
        }
    }

    #[test]
    fn rows_stay_where_they_are_while_others_arrive() {
        let store = EdgeStore::new(2, &[3, 9], vec![3.0, 3.5, 9.0, 9.5], 10);
        store.append(10, &[10.0, 10.5]);
        let early = store.row(10);
        let address = early.as_ptr();
        for event in 11..5000u64 {
            store.append(event, &[event as f32, 0.5]);
        }
        assert_eq!((early, store.row(10).as_ptr()), ([10.0, 10.5].as_slice(), address));
        assert_eq!(
            (store.row(3), store.row(9), store.row(4999)),
            ([3.0, 3.5].as_slice(), [9.0, 9.5].as_slice(), [4999.0, 0.5].as_slice())
        );
    }

    #[test]
    #[should_panic(expected = "no features are stored for event 4")]
    fn an_event_that_was_never_stored_is_named() {
        EdgeStore::new(1, &[3], vec![0.0], 10).row(4);
    }
}
