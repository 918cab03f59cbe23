//! Batches made ready on threads of their own while those before them are trained.
//!
//! ```text
//! free -> [sample] -> sampled -> [read] -> ready -> the trainer -> free
//!                                  ^
//!                        memories as they stand, M
//! ```
//!
//! A fixed number of items goes round, which bounds every queue; whoever has nothing to do waits in one.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use rayon::ThreadPoolBuilder;

use crate::TrainError;

/// How far a pipeline runs ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookahead {
    /// Items made ready before the one in hand is done with; at least `reach`.
    pub depth: usize,
    /// How many items before its turn an item's memories are read; at least 1.
    pub reach: usize,
}

/// Items that are sampled, then read, each stage on a thread of its own.
///
/// Which memories an item is read from does not depend on how fast anybody is: item `n + reach` is read from the memories that stood
/// when item `n` was taken, and the first `reach` items from those that stood when the first was.
pub(crate) struct Pipeline<T, M> {
    ahead: Lookahead,
    /// None only while it ends.
    queues: Option<Queues<T, M>>,
    /// Read and waiting for their turn, or the error that stands in the place of one.
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
    /// Starts sampling. `sample` is called for one item after the other, in order, and fills it over what it held; `read` adds what the
    /// memories say.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(
        ahead: Lookahead,
        sample: impl FnMut(&mut T) -> Result<(), TrainError> + Send + 'static,
        read: impl Fn(&mut T, &M) + Send + 'static,
    ) -> std::io::Result<Pipeline<T, M>> {
        let (free, to_sample) = channel();
        let (sampled, to_read) = channel();
        let (read_ones, ready) = channel();
        let (memories, tokens) = channel();
        // Nobody takes part yet, so that nothing can refuse them.
        (0..=ahead.depth).for_each(|_| free.send(T::default()).expect("the other end is in this function"));
        let threads = vec![
            spawn("sample", move || sample_all(&to_sample, &sampled, sample))?,
            spawn("memory", move || read_all(&tokens, &to_read, &read_ones, read))?,
        ];
        Ok(Pipeline { ahead, queues: Some(Queues { free, memories, ready }), upcoming: VecDeque::new(), threads })
    }

    /// The next item. From here on until [`wait_for_reads`](Pipeline::wait_for_reads) the one that comes `reach` after it is read from the memories
    /// that stand `now`.
    ///
    /// # Errors
    /// What sampling it failed with.
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

    /// Waits until nobody reads the memories any more: they may be written.
    pub fn wait_for_reads(&mut self) {
        // After an error nothing comes, nor after a panic, which is told when the item is missed.
        self.receive();
    }

    /// The items that wait for their turn, the next first.
    pub fn upcoming(&self) -> impl Iterator<Item = &T> {
        self.upcoming.iter().flatten()
    }

    /// The same, to be written.
    pub fn upcoming_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.upcoming.iter_mut().flatten()
    }

    /// Gives back an item that was done with, to be filled again.
    pub fn recycle(&mut self, item: T) {
        if let Some(Queues { free, .. }) = &self.queues {
            // Refused only by a sampler that has ended, which told why.
            let _ = free.send(item);
        }
    }

    /// Waits for the item that is being read; whether there was one.
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

    /// Nothing came, and no error in its place: a stage has panicked.
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
        // A stage that panicked has nothing more to say: nobody took what it would have made.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// A thread whose parallel loops are its own: those who train need the others.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let thread = Builder::new().name(name.into());
    thread.spawn(move || {
        let alone = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        // Without a pool of its own it takes part in everybody's.
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
        // Before the item is given away: who gets it may write the memories.
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

    /// What went through both stages.
    #[derive(Default, Debug, PartialEq)]
    struct Item {
        number: usize,
        /// Version of the memories it was read from.
        read: u64,
    }

    fn memories() -> Arc<Memories> {
        Arc::new(Memories::new(2, &Needs::nothing(), Timestamp(0)))
    }

    /// Lets one event happen; the memories must be nobody else's.
    fn write(memories: &mut Arc<Memories>) {
        let (src, dst, time, label) = ([NodeId(0)], [NodeId(1)], [Timestamp(0)], [0.0]);
        let batch = Batch { first: EventId(0), src: &src, dst: &dst, time: &time, label: &label };
        Arc::get_mut(memories)
            .expect("nobody reads while they are written")
            .observe(&batch, &Update::none(), &NeighbourMail::default())
            .unwrap();
    }

    /// Numbers the items; item `failing` cannot be sampled. `pause` says how long each stage takes, in units of ten microseconds.
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
        let told = catch_unwind(AssertUnwindSafe(|| pipeline.take(memories))).map(|_| ()).unwrap_err();
        assert_eq!(told.downcast_ref::<&str>(), Some(&"out of luck"));
    }
}
