//! Working memory of a task, kept by its thread.
use std::cell::RefCell;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static WORDS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `task` with `count` arbitrary numbers. Calls must not be nested.
pub(crate) fn with_scratch<R>(count: usize, task: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|numbers| {
        if numbers.len() < count {
            numbers.resize(count, 0.0);
        }
        task(&mut numbers[..count])
    })
}

/// As [`with_scratch`] with words; the two may be nested.
pub(crate) fn with_words<R>(count: usize, task: impl FnOnce(&mut [u32]) -> R) -> R {
    WORDS.with_borrow_mut(|words| {
        if words.len() < count {
            words.resize(count, 0);
        }
        task(&mut words[..count])
    })
}
