//! Batches prepared on threads of their own while the batches before them are trained.
//!
//! ```text
//! free -> [sample] -> sampled -> [read] -> ready -> the trainer -> free
//!                                  ^
//!                        memories as they stand, M
//! ```
//!
//! The number of items is fixed. It bounds every queue. A stage without work waits on its queue.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use rayon::ThreadPoolBuilder;

use crate::TrainError;

/// How far a pipeline runs ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookahead {
    /// Items prepared ahead of the one being trained; at least `reach`.
    pub depth: usize,
    /// How many items before its turn an item's memories are read; at least 1.
    pub reach: usize,
}

/// Items that are sampled, then read, each stage on a thread of its own.
///
/// Which memories an item is read from does not depend on the speed of any thread: item `n + reach` is read from the
/// memories at the moment item `n` was taken. The first `reach` items are read from the memories at the moment the
/// first was taken.
pub(crate) struct Pipeline<T, M> {
    ahead: Lookahead,
    /// None only while the pipeline ends.
    queues: Option<Queues<T, M>>,
    /// Items that are read and wait for their turn. An item that failed is replaced by its error.
    upcoming: VecDeque<Result<T, TrainError>>,
    threads: Vec<JoinHandle<()>>,
}

/// The trainer's ends of the queues.
struct Queues<T, M> {
    free: Sender<T>,
    memories: Sender<M>,
    ready: Receiver<Result<T, TrainError>>,
}

impl<T: Default + Send + 'static, M: Send + 'static> Pipeline<T, M> {
    /// Starts sampling. `sample` is called for one item after the other, in order, and overwrites its old contents.
    /// `read` adds the memories.
    ///
    /// # Errors
    /// If the system cannot start the threads.
    pub fn start(
        ahead: Lookahead,
        sample: impl FnMut(&mut T) -> Result<(), TrainError> + Send + 'static,
        read: impl Fn(&mut T, &M) + Send + 'static,
    ) -> std::io::Result<Pipeline<T, M>> {
        let (free, to_sample) = channel();
        let (sampled, to_read) = channel();
        let (read_ones, ready) = channel();
        let (memories, tokens) = channel();
        // The receiver is still in this function, so sending cannot fail.
        (0..=ahead.depth).for_each(|_| free.send(T::default()).expect("the other end is in this function"));
        let threads = vec![
            spawn("sample", move || sample_all(&to_sample, &sampled, sample))?,
            spawn("memory", move || read_all(&tokens, &to_read, &read_ones, read))?,
        ];
        Ok(Pipeline { ahead, queues: Some(Queues { free, memories, ready }), upcoming: VecDeque::new(), threads })
    }

    /// The next item. Until [`wait_for_reads`](Pipeline::wait_for_reads), the item `reach` positions after it is read
    /// from the memories that `now` gives.
    ///
    /// # Errors
    /// The error of sampling this item.
    pub fn take(&mut self, now: impl Fn() -> M) -> Result<T, TrainError> {
        while self.upcoming.len() < self.ahead.reach {
            self.read_from(now());
            if !self.receive() {
                break;
            }
        }
        let Some(item) = self.upcoming.pop_front() else { self.fail() };
        self.read_from(now());
        item
    }

    /// Waits until no thread reads the memories. They may be written then.
    pub fn wait_for_reads(&mut self) {
        // After an error no item comes. After a panic none comes either; `take` raises the panic when the item is
        // missing.
        self.receive();
    }

    /// The items that wait for their turn, the next one first.
    pub fn upcoming(&self) -> impl Iterator<Item = &T> {
        self.upcoming.iter().flatten()
    }

    /// As [`upcoming`](Pipeline::upcoming), mutable.
    pub fn upcoming_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.upcoming.iter_mut().flatten()
    }

    /// Returns an item after use, to be filled again.
    pub fn recycle(&mut self, item: T) {
        if let Some(Queues { free, .. }) = &self.queues {
            // Fails only if the sampler has ended; it has sent its error before.
            let _ = free.send(item);
        }
    }

    /// Waits for the item that is being read. Gives whether there was one.
    fn receive(&mut self) -> bool {
        let item = self.queues.as_ref().and_then(|queues| queues.ready.recv().ok());
        let came = item.is_some();
        self.upcoming.extend(item);
        came
    }

    fn read_from(&self, memories: M) {
        if let Some(queues) = &self.queues {
            let _ = queues.memories.send(memories);
        }
    }

    /// Raises the panic of a stage: neither an item nor an error came.
    fn fail(&mut self) -> ! {
        self.queues = None;
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
        panic!("an item was taken after the error that ended its pipeline");
    }
}

impl<T, M> Drop for Pipeline<T, M> {
    fn drop(&mut self) {
        self.queues = None;
        // A panic here is not raised: the item that the stage would have made was not taken.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Starts a thread with a rayon pool of its own, of one thread: the training lanes need the shared pool.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let thread = Builder::new().name(name.into());
    thread.spawn(move || {
        let alone = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        // If the pool could not be built, the thread uses the shared pool.
        work();
        drop(alone);
    })
}

fn sample_all<T>(
    free: &Receiver<T>,
    sampled: &Sender<Result<T, TrainError>>,
    mut sample: impl FnMut(&mut T) -> Result<(), TrainError>,
) {
    while let Ok(mut item) = free.recv() {
        let result = sample(&mut item).map(|()| item);
        let failed = result.is_err();
        if sampled.send(result).is_err() || failed {
            return;
        }
    }
}

fn read_all<T, M>(
    tokens: &Receiver<M>,
    sampled: &Receiver<Result<T, TrainError>>,
    ready: &Sender<Result<T, TrainError>>,
    read: impl Fn(&mut T, &M),
) {
    while let (Ok(memories), Ok(mut item)) = (tokens.recv(), sampled.recv()) {
        if let Ok(item) = &mut item {
            read(item, &memories);
        }
        // Dropped before the item is sent: the trainer may write the memories as soon as it has the item.
        drop(memories);
        if ready.send(item).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use proptest::prelude::*;
    use tempograph_framework::{Batch, EventId, Memories, Needs, NeighbourMail, NodeId, Timestamp, Update};

    /// An item that went through both stages.
    #[derive(Default, Debug, PartialEq)]
    struct Item {
        number: usize,
        /// Version of the memories it was read from.
        read: u64,
    }

    fn memories() -> Arc<Memories> {
        Arc::new(Memories::new(2, &Needs::nothing(), Timestamp(0)))
    }

    /// Observes one event. No other thread may hold the memories.
    fn write(memories: &mut Arc<Memories>) {
        let (src, dst, time, label) = ([NodeId(0)], [NodeId(1)], [Timestamp(0)], [0.0]);
        let batch = Batch { first: EventId(0), src: &src, dst: &dst, time: &time, label: &label };
        Arc::get_mut(memories)
            .expect("nobody reads while they are written")
            .observe(&batch, &Update::none(), &NeighbourMail::default())
            .unwrap();
    }

    /// Numbers the items. Item `failing` cannot be sampled. `pause` is the time of each stage, in units of ten
    /// microseconds.
    fn numbered(ahead: Lookahead, failing: usize, pause: [u64; 2]) -> Pipeline<Item, Arc<Memories>> {
        let wait = |units: u64| std::thread::sleep(Duration::from_micros(10 * units));
        let mut next = 0;
        let sample = move |item: &mut Item| {
            wait(pause[0]);
            *item = Item { number: next, read: u64::MAX };
            next += 1;
            if item.number == failing { Err(TrainError::EmptySplit { range: failing..failing }) } else { Ok(()) }
        };
        let read = move |item: &mut Item, memories: &Arc<Memories>| {
            wait(pause[1]);
            item.read = memories.version();
        };
        Pipeline::start(ahead, sample, read).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn items_come_in_order_each_read_as_many_versions_early_as_it_should_be_however_fast_anybody_is(
            reach in 1usize..4, more in 0usize..3, count in 0usize..12, pause in any::<[bool; 3]>(),
        ) {
            let [sample, read, train] = pause.map(|slow| 30 * u64::from(slow));
            let mut pipeline = numbered(Lookahead { depth: reach + more, reach }, usize::MAX, [sample, read]);
            let mut memories = memories();
            for number in 0..count {
                let item = pipeline.take(|| memories.clone()).unwrap();
                prop_assert_eq!(&item, &Item { number, read: number.saturating_sub(reach) as u64 });
                std::thread::sleep(Duration::from_micros(10 * train));
                pipeline.wait_for_reads();
                pipeline.recycle(item);
                write(&mut memories);
            }
        }

        #[test]
        fn an_error_comes_in_the_place_of_the_item_that_failed(reach in 1usize..4, more in 0usize..3, failing in 0usize..8) {
            let mut pipeline = numbered(Lookahead { depth: reach + more, reach }, failing, [0, 0]);
            let mut memories = memories();
            for number in 0..failing {
                let item = pipeline.take(|| memories.clone()).unwrap();
                prop_assert_eq!(item.number, number);
                pipeline.wait_for_reads();
                pipeline.recycle(item);
                write(&mut memories);
            }
            let error = pipeline.take(|| memories.clone()).unwrap_err();
            let expected = TrainError::EmptySplit { range: failing..failing };
            prop_assert_eq!(error.to_string(), expected.to_string());
        }
    }

    #[test]
    fn no_more_is_made_than_the_depth_and_nothing_once_the_pipeline_is_dropped() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let sample = move |_: &mut Item| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let mut pipeline =
            Pipeline::start(Lookahead { depth: 3, reach: 1 }, sample, |_: &mut Item, _: &Arc<Memories>| ()).unwrap();
        let memories = memories();
        let _held = pipeline.take(|| memories.clone()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 4, "the one in hand and three ahead");
        drop(pipeline);
        assert_eq!((Arc::strong_count(&made), Arc::strong_count(&memories)), (1, 1), "both threads have ended");
    }

    #[test]
    fn a_stage_that_panics_ends_the_training_with_its_panic() {
        let sample = |_: &mut Item| -> Result<(), TrainError> { panic!("out of luck") };
        let mut pipeline =
            Pipeline::start(Lookahead { depth: 2, reach: 1 }, sample, |_: &mut Item, _: &Arc<Memories>| ()).unwrap();
        let gathered = catch_unwind(AssertUnwindSafe(|| pipeline.take(memories))).map(|_| ()).unwrap_err();
        assert_eq!(gathered.downcast_ref::<&str>(), Some(&"out of luck"));
    }
}
