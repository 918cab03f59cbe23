//! Work in chunks of fixed size: which chunk a row falls in never depends on the number of threads.
use std::marker::PhantomData;
use std::ops::Range;

/// Does both, at the same time where that is `worth` it and another thread of the pool has nothing to do. Else no pool is entered.
pub fn join_if(worth: bool, one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    if worth {
        rayon::join(one, other);
    } else {
        one();
        other();
    }
}

/// Calls `task` with consecutive ranges of at most `chunk` rows, on all threads of the pool. Asks for no memory.
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

/// Rows of an array that several tasks write, each its own.
pub(crate) struct DisjointRows<'a> {
    first: *mut f32,
    length: usize,
    width: usize,
    array: PhantomData<&'a mut [f32]>,
}

// SAFETY: an exclusively borrowed array may be written from any thread; that no two write the same numbers is promised at each access.
unsafe impl Sync for DisjointRows<'_> {}

impl<'a> DisjointRows<'a> {
    /// Rows of `width` numbers.
    pub(crate) fn new(array: &'a mut [f32], width: usize) -> Self {
        Self { first: array.as_mut_ptr(), length: array.len(), width, array: PhantomData }
    }

    /// Some of the rows.
    ///
    /// # Safety
    /// No other task accesses any of them at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn rows(&self, rows: Range<usize>) -> &'a mut [f32] {
        // SAFETY: as promised by the caller.
        unsafe { self.numbers(rows.start * self.width..rows.end * self.width) }
    }

    /// Some of the numbers.
    ///
    /// # Safety
    /// No other task accesses any of them at the same time.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn numbers(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} is not in 0..{}", self.length);
        // SAFETY: the range lies in the array, and the caller promises that nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}
