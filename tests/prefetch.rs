//! Prefetched batches equal batches read in place, and memories are as stale as the setting says.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tempograph_framework::{
    Combine, Draw, LaneBatch, Lookup, Memories, NegativeSampler, NodeId, OtherMemory, Purpose, Queries, Sampler,
    Scorer, Store,
};
use tempograph_models::TgnSpec;
use tempograph_tests::{
    Maker, assert_same, autodiff, data, eval_spec, in_new_folder, other_needs, plan, probe, small, stopped_and_resumed,
    stream, toy, training, training_data, variants, whole,
};
use tempograph_trainers::{
    EpochReport, ParallelSpec, RunFiles, StepSettings, Timeline, Trace, TrainSpec, TrainingData, TrainingObserver,
    TrainingRun,
};

/// The epochs' reports with what the pipeline measured.
fn reports(
    training_data: &TrainingData,
    maker: &Maker,
    train: &TrainSpec,
    parallel: &ParallelSpec,
) -> Vec<EpochReport> {
    in_new_folder(training_data, maker, train, parallel, |runner| runner.to_the_end(false).epochs)
}

#[test]
fn a_run_with_batches_made_ready_ahead_is_the_run_without() {
    let (training_data, train) = (data(), TrainSpec { batch: 12, ..training() });
    let lookups =
        [Lookup::Exact, Lookup::Ordered, Lookup::Batch].map(|history| ("lookup", TgnSpec { history, ..small() }));
    let drawn = [Sampler::Uniform, Sampler::Window(30)].map(|sampler| ("drawn", TgnSpec { sampler, ..small() }));
    for (name, spec) in variants().into_iter().chain(lookups).chain(drawn) {
        let expected = whole(&training_data, &autodiff(&spec), &train, &plan([1; 3], 0, 0));
        for depth in [1, 3] {
            let found = whole(&training_data, &autodiff(&spec), &train, &plan([1; 3], depth, 0));
            assert_same(&format!("{name} ({:?}), {depth} ahead", spec.history), &found, &expected);
        }
    }
    for (name, needs) in other_needs() {
        let maker = probe(&needs);
        let expected = whole(&training_data, &maker, &train, &plan([2, 1, 1], 0, 0));
        for depth in [1, 3] {
            assert_same(
                &format!("{name}, {depth} ahead"),
                &whole(&training_data, &maker, &train, &plan([2, 1, 1], depth, 0)),
                &expected,
            );
        }
    }
}

#[test]
fn a_plan_with_batches_made_ready_ahead_is_the_plan_without() {
    let (training_data, train) = (data(), TrainSpec { batch: 12, epochs: 3, ..training() });
    for ijk in [[2, 1, 1], [1, 2, 1], [1, 1, 2], [2, 2, 2], [1, 3, 2]] {
        let expected = whole(&training_data, &toy(4), &train, &plan(ijk, 0, 0));
        for depth in [1, 2, 30] {
            assert_same(
                &format!("{ijk:?}, {depth} ahead"),
                &whole(&training_data, &toy(4), &train, &plan(ijk, depth, 0)),
                &expected,
            );
        }
    }
}

#[test]
fn a_run_made_ready_ahead_that_is_stopped_and_resumed_is_the_run_that_never_stopped() {
    let (training_data, train) = (data(), TrainSpec { batch: 12, ..training() });
    let mean = TgnSpec { mail: Combine::Mean, mail_memory: OtherMemory::AtRead, ..small() };
    for (name, maker) in [("toy", toy(4)), ("mean mail", autodiff(&mean))] {
        for (ijk, staleness) in [([1, 1, 1], 0), ([1, 1, 1], 1), ([1, 1, 1], 3), ([1, 2, 2], 0), ([2, 2, 2], 2)] {
            let parallel = plan(ijk, 3, staleness);
            let expected = whole(&training_data, &maker, &train, &parallel);
            let steps = expected.epochs.last().unwrap().steps as usize;
            for moment in [0, 1, steps / 2 - 1, steps / 2 + 1] {
                let found = stopped_and_resumed(&training_data, &maker, &train, &parallel, moment);
                assert_same(
                    &format!("{name}, {ijk:?}, staleness {staleness}, stopped at moment {moment}"),
                    &found,
                    &expected,
                );
            }
        }
    }
}

/// The reference: one epoch in which every batch reads the memories of `staleness` batches before, from copies of all
/// memories.
fn by_the_book(training_data: &TrainingData, maker: &Maker, train: &TrainSpec, staleness: usize) -> (Store, Store) {
    let (log, draw) = (&training_data.dataset.log, Draw::new(3));
    let negatives =
        NegativeSampler::new(training_data.candidates.clone(), train.negative_rule, draw.of(Purpose::Negatives));
    let chance = Draw::new(draw.of(Purpose::Sampling).at(0, 0).next_u64()).of(Purpose::Sampling);
    let mut learner = maker(&training_data.dataset);
    let mut history = training_data.history(learner.needs());
    let mut memories: Vec<Arc<Memories>> = Vec::new();
    let steps = training_data.split.train.len().div_ceil(train.batch);
    for step in 0..steps {
        let batch = log.batch(step * train.batch..training_data.split.train.end.min((step + 1) * train.batch));
        let mut drawn = vec![NodeId(0); batch.len()];
        batch
            .events()
            .zip(drawn.chunks_mut(1))
            .for_each(|(event, slots)| _ = negatives.fill(0, event.id, slots).unwrap());
        let queries = Queries::of_batch(&batch, &drawn, &(0..=batch.len()).collect::<Vec<_>>());
        memories.push(history.memories().clone());
        let mut view = history.view(&queries, Some(&batch), chance);
        memories[step.saturating_sub(staleness)].read_into(&mut view);
        let settings = StepSettings {
            lr: train.lr_at(step as u64, steps as u64),
            beta_power: 1,
            weight_decay: train.weight_decay,
            clip: train.clip,
        };
        let dropout = draw.of(Purpose::Dropout).at(0, batch.first.0).next_u64();
        let output = learner.step(&LaneBatch::single(&queries, &view, dropout), &settings).unwrap();
        history.observe(&batch, output.update).unwrap();
    }
    (learner.parameters().to_store(), history.to_store())
}

#[test]
fn stale_memories_are_those_of_exactly_as_many_batches_before_however_deep_the_pipeline() {
    let (training_data, train) = (data(), TrainSpec { batch: 12, epochs: 1, ..training() });
    let read = TgnSpec { mail_memory: OtherMemory::AtRead, ..small() };
    for (name, maker) in [("toy", toy(4)), ("paper", autodiff(&small())), ("at read", autodiff(&read))] {
        let mut seen = Vec::new();
        for staleness in 0..4 {
            let (weights, history) = by_the_book(&training_data, &maker, &train, staleness);
            for depth in [staleness.max(1), staleness + 3] {
                let mut found = whole(&training_data, &maker, &train, &plan([1; 3], depth, staleness)).checkpoint;
                let what = format!("{name}, staleness {staleness}, {depth} ahead");
                assert!(found.split_off("model.") == weights, "{what}: weights");
                assert!(found.split_off("history.0.") == history, "{what}: history");
            }
            assert!(!seen.contains(&weights), "{name}: staleness {staleness} is another training");
            seen.push(weights);
        }
    }
}

#[test]
fn the_report_counts_how_stale_each_batch_was() {
    let (training_data, train) = (data(), TrainSpec { batch: 12, ..training() });
    let batches = training_data.split.train.len().div_ceil(train.batch) as u64;
    for (staleness, expected) in [(0, vec![batches]), (1, vec![1, batches - 1]), (3, vec![1, 1, 1, batches - 3])] {
        // A history that is reset begins with no staleness again.
        for epoch in reports(&training_data, &toy(4), &train, &plan([1; 3], 3, staleness)) {
            assert_eq!(epoch.train.prefetch.staleness, expected);
            assert!(epoch.train.prefetch.sampling > 0.0 && epoch.train.prefetch.reading > 0.0);
        }
    }
    assert_eq!(reports(&training_data, &toy(4), &train, &plan([1; 3], 0, 0))[0].train.prefetch.staleness, [0; 0]);
}

struct NoObserver;
impl TrainingObserver for NoObserver {}

/// The trace of an epoch.
fn timeline(training_data: &TrainingData, train: &TrainSpec, parallel: &ParallelSpec) -> Timeline {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let trace = Arc::new(Trace::create(&path, 0).unwrap());
    let (eval, files, stop) = (eval_spec(), RunFiles { folder: folder.path().into() }, AtomicBool::new(false));
    let training = TrainingRun {
        training_data,
        train,
        parallel,
        eval: &eval,
        seed: 3,
        files,
        resume: false,
        stop: &stop,
        trace: Some(trace.clone()),
    };
    training.train_once(&mut toy(50_000)(&training_data.dataset), &mut NoObserver).unwrap();
    trace.finish().unwrap();
    Timeline::read(&path).unwrap()
}

#[test]
fn a_trace_has_every_stage_of_every_step_and_shows_that_the_next_batch_is_prepared_meanwhile() {
    let (training_data, train) = (training_data(stream(2000, 2, 0)), TrainSpec { batch: 50, epochs: 1, ..training() });
    let steps = training_data.split.train.len().div_ceil(train.batch) as u64;
    let found = timeline(&training_data, &train, &plan([1; 3], 2, 0));
    let of = |stage: &str| -> HashMap<u64, _> {
        let named = found.spans.iter().filter(|span| span.stage == stage);
        named.map(|span| (span.step, span)).collect()
    };
    let [sample, memory, compute, back] = ["sample", "memory", "compute", "write back"].map(of);
    for step in 0..steps {
        let order = [sample[&step], memory[&step], compute[&step], back[&step]];
        assert!(
            order.windows(2).all(|pair| pair[0].time.end <= pair[1].time.start),
            "the stages of step {step}: {order:?}"
        );
        assert!(sample[&step].thread != compute[&step].thread && memory[&step].thread != sample[&step].thread);
    }
    // The system orders the threads, but not the stages: memories are read while the batch before is trained.
    let beside = (1..steps).filter(|step| memory[step].time.start < compute[&(step - 1)].time.end).count();
    assert!(beside > 0, "no batch was read while another was trained");
    let (all, hidden) = found.hidden();
    assert!(all > 0.0 && hidden > 0.0 && hidden <= all, "{hidden} of {all} s hidden");

    let (all, hidden) = timeline(&training_data, &train, &plan([1; 3], 0, 0)).hidden();
    assert!(all > 0.0 && hidden == 0.0, "nothing is hidden without a pipeline");
}

#[test]
fn staleness_without_a_pipeline_that_deep_is_refused() {
    let context = plan([1; 3], 1, 2).check().unwrap_err();
    assert!(context.contains("parallel.staleness = 2") && context.contains("parallel.prefetch = 1"), "{context}");
    plan([1; 3], 2, 2).check().unwrap();
}
