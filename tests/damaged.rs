//! Files of data with damage in them: each reader gives an error or another table, never a panic, within a bound on memory. The functions and
//! the damage are those of the targets in `fuzz`. `ROUNDS=20000 cargo test --test damaged` goes on for longer, and
//! `SECONDS=600 cargo test --test damaged -- --nocapture text` for that long.

#[path = "fuzz/src/data.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the fuzz targets")]
mod data;
#[path = "fuzz/src/spoil.rs"]
mod spoil;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, and the most bytes that were in use at once.
struct Measuring;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    MOST.fetch_max(NOW.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// Bytes that a reader may take for a file of a few kilobytes. The longest line of text that is read has a quarter of that.
const BOUND: usize = 256 << 20;

/// One target at a time: the bound is on the memory of the process.
static TURN: Mutex<()> = Mutex::new(());

/// Whether this build reads Arrow IPC.
fn reads_arrow() -> bool {
    data::arrow_examples().iter().any(|example| data::arrow(example))
}

fn feed(examples: &[Vec<u8>], rounds: usize, function: impl Fn(&[u8]) -> bool) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut fed = 0;
    spoil::feed(examples, rounds, |bytes| {
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let read = function(bytes);
        assert!(
            read || fed >= examples.len(),
            "an example that is not damaged is not read: {:?}",
            String::from_utf8_lossy(bytes)
        );
        fed += 1;
        let taken = MOST.load(Ordering::Relaxed).saturating_sub(before);
        assert!(
            taken < BOUND,
            "{taken} bytes of memory for {} bytes: {:?}",
            bytes.len(),
            String::from_utf8_lossy(bytes)
        );
    });
}

#[test]
fn damaged_text_of_every_format_is_read_or_refused_by_its_name() {
    feed(&data::text_examples(), 1000, data::text);
}

#[test]
fn damaged_parquet_is_read_or_refused_by_its_name() {
    feed(&data::parquet_examples(), 400, data::parquet);
}

#[test]
fn damaged_arrow_is_read_or_refused_by_its_name() {
    if reads_arrow() {
        feed(&data::arrow_examples(), 400, data::arrow);
    } else {
        eprintln!("this build does not read Arrow IPC: --features arrow");
    }
}

#[test]
fn damaged_arrays_are_read_or_refused_by_their_name() {
    feed(&data::array_examples(), 300, data::array);
}

#[test]
fn damaged_negatives_are_read_or_refused() {
    feed(&data::negatives_examples(), 1000, data::negatives);
}

#[test]
fn damaged_roles_of_columns_are_read_or_refused() {
    feed(&data::columns_examples(), 300, data::columns);
}

#[test]
fn damaged_prepared_sets_are_opened_or_refused() {
    feed(&data::set_examples(), 300, data::set);
}

#[test]
fn damaged_weights_histories_and_static_memories_are_read_or_refused() {
    feed(&data::run_examples(), 500, data::run);
}
