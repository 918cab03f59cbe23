//! Every kind of the registry learns the same on slices as on the tape.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempograph_framework::{SliceExecutor, TensorExecutor};
use tempograph_kernels::tensor::CpuTape;
use tempograph_models::{FeatureWidths, ModelSpec};
use tempograph_tests::{assert_same_steps, kinds, pass, stream, training, training_data};
use tempograph_trainers::{Learner, ParallelSpec, TrainSpec, TrainingData};

/// Losses and norms of a pass of more than fifty steps.
fn fifty_steps(training_data: &TrainingData, mut learner: Learner) -> Vec<[f64; 2]> {
    let train = TrainSpec { batch: 20, epochs: 1, lr: 1e-3, ..training() };
    let losses = pass(training_data, &mut learner, &train, &ParallelSpec::default());
    assert!(losses.len() > 50, "{} steps", losses.len());
    losses
}

#[test]
fn fifty_steps_of_every_kind_have_the_same_losses_on_slices_and_on_the_tape() {
    let training_data = training_data(stream(1500, 2, 3));
    let widths = FeatureWidths { edge: 2, node: 3 };
    for spec in kinds() {
        let on_slices =
            |spec: &ModelSpec| Learner::new(Box::new(SliceExecutor::new(spec.on_slices(widths, 3).unwrap())));
        let tensors = spec.on_tensors::<CpuTape>(widths, 3, &Default::default()).unwrap();
        let autodiff = Learner::new(Box::new(TensorExecutor::new(tensors, &Default::default())));
        let [ours, expected] = [on_slices(&spec), autodiff].map(|learner| fifty_steps(&training_data, learner));
        // Norms are not compared: where a gradient is only rounding, Adam still makes whole steps.
        let losses = |steps: &[[f64; 2]]| steps.iter().map(|[loss, _]| *loss).collect::<Vec<_>>().into_iter();
        assert_same_steps(spec.kind(), losses(&ours), losses(&expected), 1e-4);
    }
}
