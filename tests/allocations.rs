//! Training on slices allocates nothing once it is warm.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "counting.rs"]
mod counting;

use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use rayon::ThreadPool;
use tempograph_framework::{Draw, LaneBatch, NodeId, Purpose, Queries, Scorer, View};
use tempograph_models::{FeatureWidths, TgnSpec};
use tempograph_tests::toy::Toy;
use tempograph_tests::{eval_spec, on_slices, slices, stream, training, training_data, variants};
use tempograph_trainers::{
    Learner, ParallelSpec, RunFiles, SingleProcess, StepRecord, StepSettings, TrainSpec, TrainingData,
    TrainingObserver, TrainingRun,
};

/// A lock for the test that counts: no other test may run meanwhile.
static ALONE: Mutex<()> = Mutex::new(());

/// Allocations during `work`.
fn allocations(work: impl FnOnce()) -> usize {
    let before = counting::asked();
    work();
    counting::asked() - before
}

fn asked(training_data: &TrainingData, model: &impl Scorer, range: Range<usize>) -> (Queries, View) {
    let batch = training_data.dataset.log.batch(range);
    let negatives = vec![NodeId(20); batch.len()];
    let queries = Queries::of_batch(&batch, &negatives, &(0..=batch.len()).collect::<Vec<_>>());
    let view = training_data.history(model.needs()).view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
    (queries, view)
}

fn assert_asks_for_nothing_once_warm(name: &str, pool: &ThreadPool, mut learner: Learner) {
    let training_data = training_data(stream(240, 2, 0));
    let batches = [0..100, 100..140, 140..150].map(|range| asked(&training_data, &learner, range));
    let settings = StepSettings { lr: 1e-3, beta_power: 1, weight_decay: 0.01, clip: 1e-3 };
    // On a thread of the pool: work from outside the pool goes through a queue, which grows.
    pool.install(|| {
        let mut round = || {
            for (queries, view) in &batches {
                learner.step(&LaneBatch::single(queries, view, 1), &settings).unwrap();
                learner.score(queries, view);
                learner.advance(queries, view);
            }
        };
        assert!(allocations(&mut round) > 0, "the allocator counts");
        // Outputs of layers and their gradients swap with arrays that were smaller so far.
        (0..20).for_each(|_| round());
        assert_eq!(allocations(|| (0..50).for_each(|_| round())), 0, "{name}");
    });
}

#[test]
fn a_step_an_answer_and_an_advance_ask_for_no_memory_once_the_largest_batch_was_seen() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Kept until the end: a thread that ends allocates, too.
    let [one, two] = [1, 2].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    // A thread allocates when it first takes work. The barrier makes each thread take one of these.
    let barrier = Barrier::new(2);
    two.install(|| rayon::join(|| barrier.wait(), || barrier.wait()));
    // Rows wide enough for several tasks of the optimiser.
    assert_asks_for_nothing_once_warm("toy", &two, on_slices(Toy::new(10_000)));
    // On one thread: with several, each allocates when it first takes a root's neighbours, at any time.
    for (name, spec) in variants() {
        let model = slices(&TgnSpec { dropout: 0.1, ..spec }, FeatureWidths { edge: 2, node: 0 }, 3);
        assert_asks_for_nothing_once_warm(name, &one, on_slices(model));
    }
}

/// Records the allocations until the end of each step.
struct Notes(Vec<(usize, usize)>);

impl TrainingObserver for Notes {
    fn step(&mut self, epoch: usize, _: usize, _: usize, _: &StepRecord) {
        self.0.push((epoch, counting::asked()));
    }
}

#[test]
fn of_a_run_only_a_step_larger_than_all_before_asks_for_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let training_data = training_data(stream(800, 2, 0));
    let (folder, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let train = TrainSpec { epochs: 3, checkpoint_minutes: 0.0, ..training() };
    let files = RunFiles { folder: folder.path().into() };
    let run = TrainingRun {
        training_data: &training_data,
        train: &train,
        parallel: &ParallelSpec::default(),
        eval: &eval_spec(),
        seed: 3,
        files,
        resume: false,
        stop: &stop,
        trace: None,
    };
    let mut notes = Notes(Vec::with_capacity(1000));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| run.train(&mut SingleProcess, &mut on_slices(Toy::new(10_000)), &mut notes)).unwrap();
    let last: Vec<usize> =
        notes.0.iter().filter(|(epoch, _)| *epoch == train.epochs).map(|(_, asked)| *asked).collect();
    let each: Vec<usize> = last.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Buffers grow to the largest batch. Batches differ a little, so the first steps allocate and few of the others do.
    let without = each.iter().filter(|&&asked| asked == 0).count();
    assert!(each.len() > 20 && 4 * without > 3 * each.len(), "allocations from step to step: {each:?}");
}
