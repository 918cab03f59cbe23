//! Work in chunks of fixed size: the chunk of a row never depends on the number of threads.
use std::marker::PhantomData;
use std::ops::Range;

/// Runs both closures. They run in parallel if `worth` and another thread of the pool is idle. Otherwise the pool is
/// not entered.
pub fn join_if(worth: bool, one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    if worth {
        rayon::join(one, other);
    } else {
        one();
        other();
    }
}

/// Calls `task` with consecutive ranges of at most `chunk` rows, on all threads of the pool. Allocates nothing.
pub(crate) fn in_chunks(rows: usize, chunk: usize, task: impl Fn(Range<usize>) + Sync) {
    fn split(chunks: Range<usize>, rows: usize, chunk: usize, task: &(impl Fn(Range<usize>) + Sync)) {
        if chunks.len() == 1 {
            return task(chunks.start * chunk..rows.min(chunks.end * chunk));
        }
        let middle = chunks.start + chunks.len() / 2;
        rayon::join(|| split(chunks.start..middle, rows, chunk, task), || split(middle..chunks.end, rows, chunk, task));
    }
    if rows > 0 {
        split(0..rows.div_ceil(chunk), rows, chunk, &task);
    }
}

/// Rows of an array that several tasks write. Each task writes its own rows.
pub(crate) struct DisjointRows<'a, T = f32> {
    first: *mut T,
    length: usize,
    width: usize,
    array: PhantomData<&'a mut [T]>,
}

// SAFETY: an exclusively borrowed array may be written from any thread; each access promises that no two tasks write
// the same numbers.
unsafe impl<T: Send> Sync for DisjointRows<'_, T> {}

impl<'a, T> DisjointRows<'a, T> {
    /// Rows of `width` numbers.
    pub(crate) fn new(array: &'a mut [T], width: usize) -> Self {
        Self { first: array.as_mut_ptr(), length: array.len(), width, array: PhantomData }
    }

    /// Some of the rows.
    ///
    /// # Safety
    /// No other task accesses any of them at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn rows(&self, rows: Range<usize>) -> &'a mut [T] {
        // SAFETY: as promised by the caller.
        unsafe { self.numbers(rows.start * self.width..rows.end * self.width) }
    }

    /// Some of the numbers.
    ///
    /// # Safety
    /// No other task accesses any of them at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn numbers(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} is not in 0..{}", self.length);
        // SAFETY: the range is in the array, and the caller promises that no other task accesses it.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}
