//! Workers that share out the lanes of a step.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// A number of workers, each with its share of the threads.
///
/// Which worker does what may be left to chance: what is done must not depend on it.
#[derive(Debug)]
pub struct Crew {
    /// One for each worker; none where the caller's own threads are the only worker.
    pools: Vec<ThreadPool>,
}

impl Crew {
    /// `workers` workers that share `threads` threads, at least one each. A single worker has all the threads of whoever calls.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(workers: usize, threads: usize) -> Result<Crew, ThreadPoolBuildError> {
        if workers < 2 {
            return Ok(Crew { pools: Vec::new() });
        }
        let pool = |worker: usize| {
            let share = (threads * (worker + 1) / workers - threads * worker / workers).max(1);
            ThreadPoolBuilder::new().num_threads(share).thread_name(move |_| format!("lane-{worker}")).build()
        };
        Ok(Crew { pools: (0..workers).map(pool).collect::<Result<_, _>>()? })
    }

    /// Does `work` on each item. A worker begins with the item of its own number, whose memory its core may still hold from the step before,
    /// and then takes what nobody has begun.
    pub fn each<T: Send>(&self, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        if self.pools.is_empty() {
            return items.for_each(work);
        }
        let items: Vec<Mutex<Option<T>>> = items.map(|item| Mutex::new(Some(item))).collect();
        on_all(&self.pools, 0, &|worker| {
            let own = worker % items.len().max(1);
            for item in items[own..].iter().chain(&items[..own]) {
                // Taken before the work, so that nobody waits for it.
                let taken = locked(item).take();
                taken.into_iter().for_each(&work);
            }
        });
    }

    /// As [`each`](Crew::each), where work may fail.
    ///
    /// # Errors
    /// An error of some item; the work on the others is done.
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

/// Does `work` once in each of `pools`, at the same time, with its number.
fn on_all(pools: &[ThreadPool], first: usize, work: &(impl Fn(usize) + Sync)) {
    if let Some((pool, rest)) = pools.split_first() {
        pool.in_place_scope(|scope| {
            scope.spawn(|_| work(first));
            on_all(rest, first + 1, work);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn each_item_is_done_once_whoever_does_it() {
        for workers in [1, 2, 5] {
            let crew = Crew::new(workers, 2).unwrap();
            let mut items: Vec<usize> = (0..100).collect();
            crew.each(items.iter_mut(), |item| *item += 1000);
            assert!(items.iter().enumerate().all(|(i, item)| *item == i + 1000));
        }
    }

    #[test]
    fn what_fails_is_told_and_the_rest_is_done() {
        for workers in [1, 3] {
            let mut items: Vec<usize> = (0..10).collect();
            let work = |item: &mut usize| {
                *item += 1;
                if *item == 4 { Err("three") } else { Ok(()) }
            };
            assert_eq!(Crew::new(workers, 3).unwrap().try_each(items.iter_mut(), work), Err("three"));
            assert!(items.iter().enumerate().all(|(i, item)| *item == i + 1));
        }
    }

    #[test]
    fn workers_work_at_the_same_time_and_each_has_its_share_of_the_threads() {
        let crew = Crew::new(3, 4).unwrap();
        let together = Barrier::new(3);
        let mut shares = [0; 3];
        crew.each(shares.iter_mut(), |share| {
            together.wait();
            *share = rayon::current_num_threads();
        });
        shares.sort_unstable();
        assert_eq!(shares, [1, 1, 2]);
    }
}
