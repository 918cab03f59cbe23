//! Workers that compute the lanes of a step.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tempograph_kernels::cpu::{on_each_thread, with_spinning_workers};

/// A number of workers among the threads of the caller.
///
/// The assignment of items to workers is not deterministic: the result of the work must not depend on it.
#[derive(Clone, Copy, Debug)]
pub struct LanePool {
    workers: usize,
}

impl LanePool {
    /// At most `workers` workers, each on a thread.
    pub fn new(workers: usize) -> LanePool {
        LanePool { workers }
    }

    /// Runs `work` on each item. A worker begins with the item of its own number, whose memory its core may still hold
    /// from the step before, and then takes items that no worker has begun. When none is left, it helps in the
    /// parallel loops of the others, as do threads that are no workers. A single worker runs one item after the other,
    /// each with all threads.
    pub fn each<T: Send>(&self, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        let workers = self.workers.min(rayon::current_num_threads());
        if workers < 2 {
            return items.for_each(|item| with_spinning_workers(|| work(item)));
        }
        let items: Vec<Mutex<Option<T>>> = items.map(|item| Mutex::new(Some(item))).collect();
        on_each_thread(|thread| {
            if thread >= workers {
                return;
            }
            let (before, own) = items.split_at(thread.min(items.len()));
            for item in own.iter().chain(before) {
                // The lock is released before the work, so that no other worker waits for it.
                let taken = locked(item).take();
                taken.into_iter().for_each(&work);
            }
        });
    }

    /// Like [`each`](LanePool::each), for work that may fail.
    ///
    /// # Errors
    /// The error of one of the items; the work on the others is done.
    pub fn try_each<T: Send, E: Send>(
        &self,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(T) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let failed = Mutex::new(None);
        self.each(items, |item| {
            if let Err(error) = work(item) {
                locked(&failed).get_or_insert(error);
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn each_item_is_done_once_whoever_does_it() {
        for (workers, threads) in [(1, 2), (2, 2), (5, 2), (2, 5)] {
            let mut items: Vec<usize> = (0..100).collect();
            with_threads(threads, || LanePool::new(workers).each(items.iter_mut(), |item| *item += 1000));
            assert!(items.iter().enumerate().all(|(i, item)| *item == i + 1000));
        }
    }

    #[test]
    fn a_failed_task_is_reported_and_the_others_are_done() {
        for workers in [1, 3] {
            let mut items: Vec<usize> = (0..10).collect();
            let work = |item: &mut usize| {
                *item += 1;
                if *item == 4 { Err("three") } else { Ok(()) }
            };
            assert_eq!(with_threads(3, || LanePool::new(workers).try_each(items.iter_mut(), work)), Err("three"));
            assert!(items.iter().enumerate().all(|(i, item)| *item == i + 1));
        }
    }

    #[test]
    fn workers_work_at_the_same_time_and_no_more_of_them_than_there_shall_be() {
        let (together, at_work, most) = (Barrier::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        with_threads(4, || {
            LanePool::new(2).each(0..6, |_| {
                most.fetch_max(at_work.fetch_add(1, SeqCst) + 1, SeqCst);
                together.wait();
                at_work.fetch_sub(1, SeqCst);
            })
        });
        assert_eq!(most.into_inner(), 2);
    }

    #[test]
    fn threads_without_an_item_take_part_in_the_loops_of_those_who_have_one() {
        let together = Barrier::new(2);
        // The two halves of the one item wait for each other.
        let meet = |_| {
            rayon::join(|| together.wait(), || together.wait());
        };
        with_threads(2, || LanePool::new(2).each(0..1, meet));
    }
}
