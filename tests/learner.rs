//! A model on slices learns the same as the model on the tape, and either can resume the other's run.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use tempograph_framework::{Draw, LaneBatch, NodeId, Purpose, Queries, Scorer, Store, View};
use tempograph_tests::toy::Toy;
use tempograph_tests::{
    Maker, RunResult, Runner, Stopper, autodiff_toy, on_slices, stream, toy, training, training_data,
};
use tempograph_trainers::{Learner, NotFinite, Outcome, ParallelSpec, StepSettings, TrainingData, warm_up};

const WIDTH: usize = 3;

fn data() -> TrainingData {
    training_data(stream(240, 2, 0))
}

/// Two queries for each event of `range`, and their view: all events before.
fn asked(training_data: &TrainingData, learner: &mut Learner, range: Range<usize>) -> (Queries, View) {
    let mut history = training_data.history(learner.needs());
    let log = &training_data.dataset.log;
    assert!(warm_up(learner, &mut history, log, 0..range.start, 20, &AtomicBool::new(false)).unwrap());
    let batch = log.batch(range);
    let negatives: Vec<NodeId> =
        (0..batch.len()).map(|i| log.destinations()[i * 7 % log.destinations().len()]).collect();
    let queries = Queries::of_batch(&batch, &negatives, &(0..=batch.len()).collect::<Vec<_>>());
    let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
    (queries, view)
}

const STEP: StepSettings = StepSettings { lr: 1e-3, beta_power: 1, weight_decay: 0.0, clip: 0.0 };

/// A toy with weight `number` of `name` moved by `by`.
fn moved(name: &str, number: usize, by: f32) -> Learner {
    let mut learner = on_slices(Toy::new(WIDTH));
    let mut weights = learner.parameters().to_store();
    let (shape, mut values) = weights.take::<f32>(name).unwrap();
    values[number] += by;
    weights.put(name, shape, values);
    learner.restore_weights(weights).unwrap();
    learner
}

/// The gradients of a first step: its first moments, before they decay.
fn gradients(learner: &Learner, name: &str) -> Vec<f32> {
    learner.moments().take::<f32>(&format!("m.{name}")).unwrap().1.iter().map(|m| m / (1.0 - 0.9)).collect()
}

#[test]
fn a_step_goes_down_the_derivative_of_its_loss() {
    let training_data = data();
    let mut learner = on_slices(Toy::new(WIDTH));
    let (queries, view) = asked(&training_data, &mut learner, 100..140);
    let norm = learner.step(&LaneBatch::single(&queries, &view, 5), &STEP).unwrap().gradient_norm;
    let mut squares = 0.0;
    for (name, size) in [("cell", 2), ("link", 3), ("rows", 8 * WIDTH)] {
        let found = gradients(&learner, name);
        assert_eq!(found.len(), size);
        for (number, found) in found.into_iter().enumerate() {
            let loss = |by: f32| {
                f64::from(moved(name, number, by).step(&LaneBatch::single(&queries, &view, 5), &STEP).unwrap().loss)
            };
            let expected = (loss(1e-2) - loss(-1e-2)) / 2e-2;
            assert!((f64::from(found) - expected).abs() < 1e-4, "{name}[{number}]: {found} for {expected}");
            squares += f64::from(found).powi(2);
        }
    }
    assert!((norm - squares.sqrt()).abs() < 1e-6 && norm > 0.1, "norm {norm} for {}", squares.sqrt());
}

#[test]
fn clipping_shortens_all_gradients_alike_and_decay_pulls_the_weights_in() {
    let training_data = data();
    let step = |settings: StepSettings| {
        let mut learner = on_slices(Toy::new(WIDTH));
        let (queries, view) = asked(&training_data, &mut learner, 100..140);
        let norm = learner.step(&LaneBatch::single(&queries, &view, 5), &settings).unwrap().gradient_norm;
        (norm, gradients(&learner, "link"), learner.parameters().to_store().take::<f32>("link").unwrap().1)
    };
    let (norm, free, weights) = step(STEP);
    let (same, clipped, _) = step(StepSettings { clip: norm / 4.0, ..STEP });
    assert_eq!(same, norm, "the norm told is that before clipping");
    free.iter().zip(&clipped).for_each(|(free, clipped)| assert!((free / 4.0 - clipped).abs() < 1e-6));
    let (_, _, decayed) = step(StepSettings { weight_decay: 10.0, ..STEP });
    let before = on_slices(Toy::new(WIDTH)).parameters().to_store().take::<f32>("link").unwrap().1;
    for ((before, plain), decayed) in before.iter().zip(weights).zip(decayed) {
        assert!((plain - before * 0.01 - decayed).abs() < 1e-6, "{before} became {plain}, and {decayed} with decay");
    }
}

#[test]
fn betas_to_a_power_move_the_moments_as_far_as_so_many_steps_down_the_same_gradient() {
    let training_data = data();
    let moments = |steps: usize, beta_power: usize| {
        let mut learner = on_slices(Toy::new(WIDTH));
        let (queries, view) = asked(&training_data, &mut learner, 100..140);
        // With a learning rate of 0 the gradient is the same in each step.
        let settings = StepSettings { lr: 0.0, beta_power, ..STEP };
        for _ in 0..steps {
            learner.step(&LaneBatch::single(&queries, &view, 5), &settings).unwrap();
        }
        ["m.link", "v.link"].map(|name| learner.moments().take::<f32>(name).unwrap().1)
    };
    for (one, each) in moments(1, 8).iter().zip(moments(8, 1)) {
        for (one, each) in one.iter().zip(each) {
            assert!((one - each).abs() <= 1e-4 * each.abs() && each != 0.0, "{one} for {each}");
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_and_changes_nothing() {
    let training_data = data();
    let mut learner = moved("link", 2, f32::INFINITY);
    let (queries, view) = asked(&training_data, &mut learner, 0..40);
    let before = (learner.parameters().to_store(), learner.moments());
    let Err(NotFinite::Loss(loss)) = learner.step(&LaneBatch::single(&queries, &view, 5), &STEP) else {
        panic!("the loss is finite")
    };
    assert!(!loss.is_finite());
    assert!((learner.parameters().to_store(), learner.moments()) == before);
}

#[test]
fn moments_of_another_model_are_refused_by_name() {
    let mut learner = on_slices(Toy::new(WIDTH));
    let refused = |learner: &mut Learner, store: Store| learner.restore_moments(store).unwrap_err().to_string();
    let wider = on_slices(Toy::new(WIDTH + 1)).moments();
    assert!(refused(&mut learner, wider).contains("`m.rows`"));
    let mut more = learner.moments();
    more.put("m.head", [1], vec![0.0f32]);
    assert!(refused(&mut learner, more).contains("`m.head`"));
    assert!(learner.restore_moments(learner.moments()).is_ok());
}

fn run(training_data: &TrainingData, first: (&Maker, Stopper), then: Option<&Maker>) -> RunResult {
    let (folder, train) = (tempfile::tempdir().unwrap(), training());
    let parallel = ParallelSpec::default();
    let runner = |maker| Runner { training_data, maker, train: &train, parallel: &parallel, folder: folder.path() };
    let (maker, mut stopper) = first;
    match (runner(maker).run(false, &mut stopper), then) {
        (Outcome::Finished(fitted), None) => runner(maker).result(fitted),
        (Outcome::Stopped(_), Some(other)) => runner(other).resumed(),
        _ => panic!("it was stopped, or not, against the plan"),
    }
}

/// Losses, weights, moments and histories agree to rounding.
#[track_caller]
fn assert_close(what: &str, found: RunResult, expected: RunResult) {
    assert_eq!(found.epochs.len(), expected.epochs.len());
    for (found, expected) in found.epochs.iter().zip(&expected.epochs) {
        assert!(
            (found.train.loss - expected.train.loss).abs() < 1e-4,
            "{what}: {} for {}",
            found.train.loss,
            expected.train.loss
        );
    }
    for (mut found, expected) in [(found.checkpoint, expected.checkpoint), (found.best, expected.best)] {
        assert!(found.names().eq(expected.names()), "{what}: names of the arrays");
        let mut theirs = expected.clone();
        for name in expected.names() {
            // Counts and times are the same; numbers to rounding.
            let Ok((shape, values)) = theirs.take::<f32>(name) else { continue };
            let (found_shape, found_values) = found.take::<f32>(name).unwrap();
            assert_eq!(found_shape, shape, "{what}: shape of {name}");
            let off = values.iter().zip(&found_values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 2e-3, "{what}: {name} is off by {off}");
        }
    }
}

#[test]
fn on_slices_a_model_learns_what_it_learns_on_the_tape() {
    let training_data = data();
    let [direct, autodiff] =
        [toy(WIDTH), autodiff_toy(WIDTH)].map(|maker| run(&training_data, (&maker, Stopper::never()), None));
    assert!(direct.epochs[1].train.loss < direct.epochs[0].train.loss);
    assert_close("on slices", direct, autodiff);
}

#[test]
fn either_goes_on_where_the_other_stopped() {
    let training_data = data();
    let (direct, autodiff) = (toy(WIDTH), autodiff_toy(WIDTH));
    let whole = run(&training_data, (&direct, Stopper::never()), None);
    for moment in [2, 9] {
        assert_close(
            "slices, then the tape",
            run(&training_data, (&direct, Stopper::at(moment)), Some(&autodiff)),
            whole.clone(),
        );
        assert_close(
            "the tape, then slices",
            run(&training_data, (&autodiff, Stopper::at(moment)), Some(&direct)),
            whole.clone(),
        );
    }
}
