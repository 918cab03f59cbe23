//! Counts allocations, so that a measurement can show that a loop allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::terminal::interrupt::end_now;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator with a counter. The program installs it; in other programs [`allocations`] stays zero.
#[derive(Debug)]
pub struct CountingAllocator;

/// Allocations and reallocations so far, by all threads of this process.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

/// Ends the process with a sentence where the system has no memory left: nothing here goes on without it.
fn there_or_end(at: *mut u8, size: usize) -> *mut u8 {
    if at.is_null() {
        end_without_memory(size);
    }
    at
}

#[cold]
fn end_without_memory(size: usize) {
    let mut text = [0; 256];
    let room = text.len();
    let mut left = &mut text[..];
    let what = "smaller train.batch, eval.negatives or sizes of the model need less";
    let _ = writeln!(left, "error: the system has no {} MB of memory left for this: {what}", size.div_ceil(1 << 20));
    let written = room - left.len();
    end_now(&text[..written]);
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        there_or_end(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        there_or_end(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        there_or_end(unsafe { System.realloc(at, layout, size) }, size)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}
