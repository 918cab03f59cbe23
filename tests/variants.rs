//! Every option of a TGN trains: the loss is finite and falls, and every weight gets a gradient.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempograph_framework::{Draw, History, Model, Purpose, Queries, values};
use tempograph_models::{StaticMemoryMode, StaticSpec, TgnSpec};
use tempograph_tests::{autodiff, features, frozen, model, small, stream, training, training_data, variants, whole};
use tempograph_trainers::{ParallelSpec, TrainSpec};

/// Adding the same to all keys changes no softmax: the gradient of this bias is zero but for rounding.
fn matters(weight: &str) -> bool {
    !weight.ends_with("key.bias")
}

fn assert_trains(name: &str, spec: &TgnSpec, edge: usize, node: usize) {
    let what = format!("{name}, {edge} edge and {node} node features");
    let training_data = training_data(stream(260, edge, node));
    let train = TrainSpec { epochs: 4, ..training() };
    let mut traces = whole(&training_data, &autodiff(spec), &train, &ParallelSpec::default());

    let losses: Vec<f64> = traces.epochs.iter().map(|epoch| epoch.train.loss).collect();
    assert!(losses.iter().all(|loss| loss.is_finite()), "{what}: losses {losses:?}");
    assert!(losses[3] < losses[0] - 0.01, "{what}: the loss does not fall: {losses:?}");

    // The optimiser's second moment is a sum of squares: zero only where no step had a gradient.
    let mut adam = traces.checkpoint.split_off("adam.");
    let weights: Vec<String> = traces.checkpoint.split_off("model.").names().map(String::from).collect();
    for weight in weights.iter().filter(|weight| matters(weight)) {
        let (_, squares) = adam
            .take::<f32>(&format!("v.{weight}"))
            .unwrap_or_else(|error| panic!("{what}: {weight} never had a gradient: {error}"));
        assert!(squares.iter().any(|&square| square > 0.0), "{what}: {weight} had gradients of zero only");
    }
}

#[test]
fn every_option_trains_with_edge_features() {
    variants().iter().for_each(|(name, spec)| assert_trains(name, spec, 3, 0));
}

#[test]
fn every_way_through_the_features_trains() {
    let read = ["paper", "conv, 2 layers", "sum", "mean mail, message mlp", "identity", "time", "as PyG"];
    for (name, spec) in variants().iter().filter(|(name, _)| read.contains(name)) {
        assert_trains(name, spec, 0, 0);
        assert_trains(name, spec, 0, 2);
        assert_trains(name, spec, 3, 2);
    }
}

#[test]
fn dropout_applies_in_training_only() {
    let hidden = StaticSpec { hide: 0.5, ..frozen(StaticMemoryMode::Concat) };
    acts_in_training_only(&TgnSpec { dropout: 0.5, ..small() });
    acts_in_training_only(&TgnSpec { static_memory: hidden, ..small() });
}

fn acts_in_training_only(spec: &TgnSpec) {
    let set = stream(100, 2, 0);
    let model = model(spec, &set, 1);
    let mut history = History::new(set.nodes, model.needs(), set.log.time()[0], features(&set));
    let batch = set.log.batch(0..60);
    let step = |history: &History, seed| {
        let queries = Queries::of_batch(&batch, &[], &[0; 61]);
        model.forward(&queries, &history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling)), seed)
    };
    history.observe(&batch, &step(&history, None).update).unwrap();
    let batch = set.log.batch(60..100);
    let scores = |seed| {
        let queries = Queries::of_batch(&batch, &[], &[0; 41]);
        values(
            model
                .forward(&queries, &history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling)), seed)
                .scores,
        )
    };
    assert_eq!(scores(None), scores(None));
    assert_eq!(scores(Some(1)), scores(Some(1)));
    assert_ne!(scores(Some(1)), scores(Some(2)));
    assert_ne!(scores(Some(1)), scores(None));
}
