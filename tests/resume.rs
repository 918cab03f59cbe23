//! The result of a run is a function of its spec. Stopping it, killing it or another number of threads changes no bit.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use tempograph_framework::{Combine, Sampler};
use tempograph_models::{Embedding, Message, TgnSpec, Updater};
use tempograph_tests::{
    Maker, Moment, RunResult, Stopper, assert_same, autodiff, data, in_new_folder, small, stopped_and_resumed, stream,
    toy, training, training_data, whole,
};
use tempograph_trainers::{Outcome, ParallelSpec, Schedule, SelectBy, TrainSpec, TrainingData};

/// Models that store their state or draw random numbers in different places.
fn kinds() -> Vec<(&'static str, Maker)> {
    vec![
        ("dropout", autodiff(&TgnSpec { dropout: 0.3, ..small() })),
        ("uniform, 2 layers", autodiff(&TgnSpec { sampler: Sampler::Uniform, layers: 2, dropout: 0.1, ..small() })),
        (
            "mean mail, message mlp, rnn",
            autodiff(&TgnSpec { mail: Combine::Mean, message: Message::Mlp, updater: Updater::Rnn, ..small() }),
        ),
        (
            "pair features",
            autodiff(&TgnSpec { pair_features: true, embedding: Embedding::Time, time_scale: Some(10.0), ..small() }),
        ),
        ("on slices", toy(4)),
    ]
}

/// One lane without prefetch.
fn one() -> ParallelSpec {
    ParallelSpec::default()
}

/// Every moment at which a run can be stopped.
fn moments(training_data: &TrainingData, maker: &Maker, train: &TrainSpec) -> Vec<Moment> {
    in_new_folder(training_data, maker, train, &one(), |runner| {
        let mut stopper = Stopper::never();
        runner.run(false, &mut stopper);
        stopper.seen
    })
}

#[test]
fn a_run_stopped_at_any_moment_and_resumed_is_the_run_that_never_stopped() {
    let (training_data, maker) = (data(), autodiff(&small()));
    let train = TrainSpec { schedule: Schedule::Cosine, select_by: SelectBy::Ap, ..training() };
    let whole = whole(&training_data, &maker, &train, &one());
    let moments = moments(&training_data, &maker, &train);
    assert!(
        moments.contains(&Moment::Evaluated)
            && moments.iter().filter(|&&moment| moment == Moment::Step(true)).count() == train.epochs
    );
    for (moment, kind) in moments.iter().enumerate() {
        let found = stopped_and_resumed(&training_data, &maker, &train, &one(), moment);
        assert_same(&format!("stopped at moment {moment}, {kind:?}"), &found, &whole);
    }
}

#[test]
fn every_kind_of_model_resumes_within_an_epoch_at_its_end_and_in_validation() {
    let (training_data, train) = (data(), training());
    for (name, maker) in kinds() {
        let whole = whole(&training_data, &maker, &train, &one());
        let moments = moments(&training_data, &maker, &train);
        let end = moments.iter().position(|&moment| moment == Moment::Step(true)).unwrap();
        for moment in [1, end, end + 1, end + 4] {
            let found = stopped_and_resumed(&training_data, &maker, &train, &one(), moment);
            assert_same(&format!("{name}, stopped at moment {moment}"), &found, &whole);
        }
    }
}

#[test]
fn a_run_stopped_after_every_step_is_the_run_that_never_stopped() {
    let (training_data, maker, train) = (data(), autodiff(&TgnSpec { dropout: 0.2, ..small() }), training());
    let whole = whole(&training_data, &maker, &train, &one());
    let found = in_new_folder(&training_data, &maker, &train, &one(), |runner| {
        let mut sessions = 0;
        loop {
            let mut stopper = Stopper::at_next_step();
            let outcome = runner.run(sessions > 0, &mut stopper);
            sessions += 1;
            if let Outcome::Finished(fitted) = outcome {
                assert!(sessions > 2 * train.epochs, "only {sessions} sessions");
                return runner.result(fitted);
            }
        }
    });
    assert_same("stopped after every step", &found, &whole);
}

#[test]
fn a_run_that_was_killed_goes_on_from_its_last_checkpoint() {
    let (training_data, maker) = (data(), autodiff(&TgnSpec { dropout: 0.2, ..small() }));
    // Every step is due for a checkpoint.
    let train = TrainSpec { checkpoint_minutes: 1e-12, ..training() };
    let whole = whole(&training_data, &maker, &train, &one());
    let last =
        moments(&training_data, &maker, &train).iter().rposition(|moment| matches!(moment, Moment::Step(_))).unwrap();
    for step in [1, 4, last] {
        let found = in_new_folder(&training_data, &maker, &train, &one(), |runner| {
            let killed = catch_unwind(AssertUnwindSafe(|| runner.run(false, &mut Stopper::crash(step))));
            assert!(killed.is_err());
            runner.resumed()
        });
        assert_same(&format!("killed in moment {step}"), &found, &whole);
    }
}

#[test]
fn a_finished_run_that_is_resumed_stays_as_it_is() {
    let (training_data, maker, train) = (data(), autodiff(&small()), training());
    in_new_folder(&training_data, &maker, &train, &one(), |runner| {
        let whole = runner.whole();
        assert_same("resumed after its end", &runner.resumed(), &whole);
    });
}

#[test]
fn concurrent_runs_in_one_process_do_not_affect_each_other() {
    let (training_data, train) = (data(), training());
    let kinds = kinds();
    let alone: Vec<RunResult> = kinds.iter().map(|(_, maker)| whole(&training_data, maker, &train, &one())).collect();
    std::thread::scope(|threads| {
        for first in 0..6 {
            let (training_data, train, kinds, alone) = (&training_data, &train, &kinds, &alone);
            threads.spawn(move || {
                for i in 0..12 {
                    let (name, maker) = &kinds[(first + i) % kinds.len()];
                    let beside = whole(training_data, maker, train, &one());
                    assert_same(&format!("{name} beside other runs"), &beside, &alone[(first + i) % kinds.len()]);
                }
            });
        }
    });
}

#[test]
fn the_same_spec_and_seed_give_the_same_bits_on_any_number_of_threads() {
    let training_data = training_data(stream(600, 4, 0));
    let train = TrainSpec { batch: 150, ..training() };
    let wide = TgnSpec { memory: 40, time: 24, width: 32, neighbours: 10, dropout: 0.1, ..small() };
    let kinds = [
        ("paper", autodiff(&wide)),
        ("mean mail, message mlp", autodiff(&TgnSpec { mail: Combine::Mean, message: Message::Mlp, ..wide.clone() })),
        ("2 layers, pair features", autodiff(&TgnSpec { layers: 2, pair_features: true, ..wide })),
        ("on slices", toy(10_000)),
    ];
    for (name, maker) in &kinds {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| whole(&training_data, maker, &train, &one()))
        };
        let one = with(1);
        assert!(one.epochs.iter().all(|epoch| epoch.train.loss.is_finite()));
        for threads in [1, 2, 3] {
            assert_same(&format!("{name} on {threads} threads"), &with(threads), &one);
        }
    }
}
