//! Threads that stay awake between one parallel loop and the next.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long an idle thread spins: longer than a step needs between two loops. A thread that waits further down the same
/// stack stops waiting then.
const MAX_SPIN: Duration = Duration::from_micros(200);

/// Runs `work`. The other threads of the pool spin until it is done, so they join its parallel loops at once and do not
/// sleep. Waking a thread costs both sides more than many loops do, and a training step has some thirty loops.
///
/// It pays if `work` is short and nothing in it waits, since spinning threads are busy. Results are the same.
pub fn with_spinning_workers<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let busy = AtomicUsize::new(1);
    with_helpers(rayon::current_num_threads() - 1, &busy, || {
        let _done = BusyGuard(&busy);
        work()
    })
}

/// Runs `work` once on each thread of the pool, all at the same time, with the index of the thread. A thread that
/// finishes early joins the parallel loops of the others.
///
/// # Panics
/// If `work` panics; it first finishes on all threads.
pub fn on_each_thread(work: impl Fn(usize) + Sync) {
    let busy = AtomicUsize::new(rayon::current_num_threads());
    rayon::broadcast(|thread| {
        {
            let _done = BusyGuard(&busy);
            work(thread.index());
        }
        steal_until_idle(&busy);
    });
}

/// Decrements the number of busy threads when dropped, also if `work` panics.
struct BusyGuard<'a>(&'a AtomicUsize);

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

fn with_helpers<R: Send>(helpers: usize, busy: &AtomicUsize, work: impl FnOnce() -> R + Send) -> R {
    match helpers {
        0 => work(),
        _ => rayon::join(|| with_helpers(helpers - 1, busy, work), || steal_until_idle(busy)).0,
    }
}

/// Runs the pool's work until no thread is busy, or until there was none for [`MAX_SPIN`].
fn steal_until_idle(busy: &AtomicUsize) {
    let mut idle = Instant::now();
    while busy.load(Ordering::Acquire) > 0 {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = Instant::now(),
            _ if idle.elapsed() > MAX_SPIN => return,
            _ => std::hint::spin_loop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
    }

    #[test]
    fn nested_and_concurrent_loops_do_all_their_work() {
        for threads in [1, 2, 5] {
            let sum = |limit: u64| {
                with_spinning_workers(|| {
                    let (low, high) = rayon::join(|| (0..limit / 2).sum::<u64>(), || (limit / 2..limit).sum::<u64>());
                    low + high
                })
            };
            let nested = || with_spinning_workers(|| rayon::join(|| sum(1000), || sum(500)));
            assert_eq!(pool(threads).install(nested), (499_500, 124_750), "{threads} threads");
        }
    }

    #[test]
    fn several_at_once_do_not_wait_for_each_other_for_ever() {
        let pool = pool(4);
        let sum = || {
            with_spinning_workers(|| {
                (0..200).map(|_| rayon::join(|| rayon::join(|| 1, || 2).0, || rayon::join(|| 3, || 4).1).1).sum::<i32>()
            })
        };
        let sums = std::thread::scope(|scope| {
            let all: Vec<_> = (0..6).map(|_| scope.spawn(|| pool.install(sum))).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!(sums, [800; 6]);
    }

    #[test]
    fn work_that_panics_lets_everybody_go() {
        let pool = pool(3);
        let failed = catch_unwind(AssertUnwindSafe(|| pool.install(|| with_spinning_workers(|| panic!("on purpose")))));
        assert!(failed.is_err());
        assert_eq!(pool.install(|| with_spinning_workers(|| 7)), 7);
    }
}
