//! A plan has one result: the same weights and histories, on any number of processes and after any number of stops.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempograph_framework::{Combine, History, Sampler, Split, Store};
use tempograph_models::TgnSpec;
use tempograph_tests::{
    Runner, Stopper, assert_same, autodiff, data, features, in_new_folder, needs, other_needs, probe, small,
    stopped_and_resumed, stream, toy, training, training_data, whole,
};
use tempograph_trainers::{
    BetaScale, LrScale, ParallelSpec, RunFiles, SingleProcess, TrainSpec, TrainingData, read_best_model,
};

fn plan(minibatch: usize, epoch: usize, memory: usize) -> ParallelSpec {
    ParallelSpec { beta_scale: BetaScale::None, ..tempograph_tests::plan([minibatch, epoch, memory], 0, 0) }
}

fn plans() -> Vec<ParallelSpec> {
    [(2, 1, 1), (1, 2, 1), (1, 1, 2), (3, 2, 1), (2, 2, 2), (1, 3, 2)].map(|(i, j, k)| plan(i, j, k)).to_vec()
}

#[test]
fn lanes_in_turn_and_lanes_on_threads_compute_the_same_bits() {
    let training_data = training_data(stream(400, 4, 0));
    let train = TrainSpec { batch: 20, epochs: 3, ..training() };
    for parallel in plans() {
        let with = |threads: usize, lanes: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                whole(&training_data, &toy(10_000), &train, &ParallelSpec { threads: lanes, ..parallel.clone() })
            })
        };
        let in_turn = with(1, 1);
        assert!(
            in_turn.epochs.last().unwrap().epoch == 3
                && in_turn.epochs.iter().all(|epoch| epoch.train.loss.is_finite())
        );
        for (threads, lanes) in [(4, 1), (2, 2), (3, 0), (2, 8)] {
            assert_same(
                &format!("{} on {threads} threads, {lanes} lanes at once", parallel.plan()),
                &with(threads, lanes),
                &in_turn,
            );
        }
    }
}

#[test]
fn lanes_say_the_mail_of_the_whole_batch_whatever_part_of_it_they_train() {
    let training_data = data();
    // Weights that do not change: then only the update could differ between a batch of two shards and one batch.
    let still = TrainSpec { lr: 0.0, weight_decay: 0.0, ..training() };
    for (name, needs) in other_needs() {
        let history = |minibatch: usize, batch: usize| {
            let (train, parallel) = (TrainSpec { batch, ..still.clone() }, plan(minibatch, 1, 1));
            let checkpoint = whole(&training_data, &probe(&needs), &train, &parallel).checkpoint;
            checkpoint.clone().split_off("history.0.")
        };
        let expected = history(1, 24);
        assert!(needs.memory == 0 || expected.get::<u64>("mail.event").unwrap().len() > 10, "{name}: there is mail");
        for (minibatch, batch) in [(2, 12), (3, 8)] {
            assert!(history(minibatch, batch) == expected, "{name}, {minibatch} shards");
        }
    }
}

#[test]
fn a_plan_stopped_at_any_step_and_resumed_is_the_plan_that_never_stopped() {
    let (training_data, train) = (data(), TrainSpec { batch: 12, ..training() });
    let models = [
        ("on slices", toy(4)),
        ("2 layers, pair features", autodiff(&TgnSpec { layers: 2, dropout: 0.1, pair_features: true, ..small() })),
        ("uniform, mean mail", autodiff(&TgnSpec { sampler: Sampler::Uniform, mail: Combine::Mean, ..small() })),
    ];
    let others = other_needs().into_iter().map(|(name, needs)| (name, probe(&needs)));
    for (name, maker) in models.into_iter().chain(others) {
        for parallel in plans() {
            let expected = whole(&training_data, &maker, &train, &parallel);
            let steps = expected.epochs.last().unwrap().steps as usize;
            for moment in [0, 1, 2, steps / 2] {
                let found = stopped_and_resumed(&training_data, &maker, &train, &parallel, moment);
                assert_same(&format!("{name}, {}, stopped at moment {moment}", parallel.plan()), &found, &expected);
            }
        }
    }
}

#[test]
fn shards_of_a_batch_are_the_batch() {
    let training_data = data();
    let epochs = |batch: usize, shards: usize| {
        let train = TrainSpec { batch, ..training() };
        whole(&training_data, &autodiff(&small()), &train, &plan(shards, 1, 1)).epochs
    };
    for (whole, cut) in epochs(24, 1).iter().zip(epochs(8, 3)) {
        assert_eq!(whole.steps, cut.steps);
        assert!((whole.train.loss - cut.train.loss).abs() < 1e-4, "{} for {}", cut.train.loss, whole.train.loss);
        assert!((whole.memory_norm - cut.memory_norm).abs() < 1e-3, "{} for {}", cut.memory_norm, whole.memory_norm);
    }
}

#[test]
fn equal_work_takes_as_many_fewer_steps_as_there_are_lanes() {
    let (training_data, train) = (data(), TrainSpec { batch: 10, epochs: 6, ..training() });
    let steps = |parallel: &ParallelSpec| whole(&training_data, &toy(4), &train, parallel).epochs.last().unwrap().steps;
    let alone = steps(&plan(1, 1, 1));
    for parallel in plans() {
        let lanes = parallel.plan().lanes() as u64;
        let found = steps(&parallel);
        // The last batch of a pass may be smaller, so cutting the log rounds up.
        assert!(
            (alone.div_ceil(lanes)..=alone.div_ceil(lanes) + 6).contains(&found),
            "{}: {found} steps for {alone}",
            parallel.plan()
        );
    }
}

#[test]
fn a_plan_is_examined_when_its_histories_have_been_passed_once_and_at_the_end() {
    let (training_data, train) = (data(), TrainSpec { batch: 12, epochs: 7, ..training() });
    for parallel in plans() {
        let passes = parallel.plan().passes();
        let expected: Vec<usize> = (1..=7).filter(|epoch| epoch % passes == 0 || *epoch == 7).collect();
        let found: Vec<usize> =
            whole(&training_data, &toy(4), &train, &parallel).epochs.iter().map(|epoch| epoch.epoch).collect();
        assert_eq!(found, expected, "{}", parallel.plan());
    }
}

#[test]
fn examination_goes_on_from_the_memories_that_were_trained_on() {
    let (set, spec) = (stream(240, 2, 3), small());
    // so few events are evaluated that some nodes have none meanwhile
    let (split, features) = (Split::by_time(set.log.time(), 0.04, 0.15).unwrap(), features(&set));
    let training_data = TrainingData::new(set, features, split).unwrap();
    let examined = training_data.dataset.log.batch(training_data.split.val.clone());
    let idle = |node: &u32| !examined.src.iter().chain(examined.dst).any(|touched| touched.0 == *node);
    let idle: Vec<u32> = (0..training_data.dataset.nodes as u32).filter(idle).collect();
    for parallel in plans() {
        let train = TrainSpec { batch: 12, epochs: parallel.plan().passes(), lr: 1e-2, ..training() };
        in_new_folder(&training_data, &autodiff(&spec), &train, &parallel, |runner| {
            runner.whole();
            let files = RunFiles { folder: runner.folder.to_path_buf() };
            let first = Store::read(&files.checkpoint()).unwrap().split_off("history.0.");
            let trained = History::from_store(first, needs(&spec), training_data.features.clone()).unwrap();
            let after = read_best_model(&files.best(), needs(&spec), training_data.features.clone()).unwrap().history;
            let of = |history: &History| {
                idle.iter().flat_map(|&node| history.memory()[8 * node as usize..][..8].to_vec()).collect::<Vec<_>>()
            };
            assert!(
                of(&trained).iter().any(|&number| number != 0.0),
                "some nodes that nothing happens to in validation have memories"
            );
            assert_eq!(of(&after), of(&trained), "{}", parallel.plan());
        });
    }
}

#[test]
fn the_learning_rate_grows_with_the_lanes_as_the_spec_says() {
    let (training_data, train) = (data(), TrainSpec { batch: 10, epochs: 1, ..training() });
    for (lr_scale, factor) in [(LrScale::Linear, 4.0), (LrScale::Sqrt, 2.0), (LrScale::None, 1.0)] {
        let epochs = whole(&training_data, &toy(4), &train, &ParallelSpec { lr_scale, ..plan(1, 2, 2) }).epochs;
        assert_eq!(epochs[0].train.lr, factor * train.lr, "{lr_scale:?}");
    }
}

#[test]
fn lanes_learn_what_one_lane_learns_and_plans_differ() {
    let (training_data, train) = (training_data(stream(600, 2, 0)), TrainSpec { batch: 20, epochs: 6, ..training() });
    let run = |parallel: &ParallelSpec| whole(&training_data, &autodiff(&small()), &train, parallel);
    let (mut alone, mut seen) = (run(&plan(1, 1, 1)), Vec::new());
    let first = alone.epochs[0].train.loss;
    for parallel in [plan(1, 2, 1), plan(1, 1, 2)] {
        let mut found = run(&ParallelSpec { lr_scale: LrScale::Linear, beta_scale: BetaScale::Epoch, ..parallel });
        let last = found.epochs.last().unwrap().train.loss;
        assert!(last < first, "{last} after {first}");
        seen.push(found.checkpoint.split_off("model."));
    }
    seen.push(alone.checkpoint.split_off("model."));
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "plans are told apart");
}

#[test]
fn a_plan_the_data_does_not_fit_and_a_checkpoint_of_another_plan_are_refused() {
    let (training_data, train) = (data(), TrainSpec { batch: 100, ..training() });
    let (folder, maker) = (tempfile::tempdir().unwrap(), toy(4));
    let run = |parallel: &ParallelSpec, resume: bool| {
        let runner =
            Runner { training_data: &training_data, maker: &maker, train: &train, parallel, folder: folder.path() };
        runner
            .run_among(&mut SingleProcess, resume, &mut Stopper::never())
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let error = run(&plan(1, 1, 7), false).unwrap_err();
    assert!(error.contains("parallel.memory = 7") && error.contains("2 global batches"), "{error}");
    run(&plan(1, 2, 1), false).unwrap();
    let error = run(&plan(1, 1, 2), true).unwrap_err();
    assert!(error.contains("under the plan 1x2x1, but the spec says 1x1x2"), "{error}");
}
