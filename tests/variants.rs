//! Every option of a TGN trains: its loss is finite and falls, and every weight of it is reached by a gradient.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempograph_framework::{Combine, Draw, History, Model, NodeId, OtherMemory, Purpose, Queries, Store, values};
use tempograph_models::{TgnSpec, Updater};
use tempograph_tests::{Runner, course, features, gradients as gradients_of, model, small, stream, training, variants};
use tempograph_trainers::{TrainSpec, link_loss};

/// Adding the same to all keys changes no softmax: the gradient of this bias is zero but for rounding.
fn matters(weight: &str) -> bool {
    !weight.ends_with("key.bias")
}

fn assert_trains(name: &str, spec: &TgnSpec, edge: usize, node: usize) {
    let what = format!("{name}, {edge} edge and {node} node features");
    let course = course(stream(260, edge, node));
    let train = TrainSpec { epochs: 4, ..training() };
    let folder = tempfile::tempdir().unwrap();
    let mut traces = Runner { course: &course, spec, train: &train, folder: folder.path() }.whole();

    let losses: Vec<f64> = traces.epochs.iter().map(|epoch| epoch.train.loss).collect();
    assert!(losses.iter().all(|loss| loss.is_finite()), "{what}: losses {losses:?}");
    assert!(losses[3] < losses[0] - 0.01, "{what}: the loss does not fall: {losses:?}");

    // The optimiser's second moment is a sum of squares: zero only where no step had a gradient.
    let mut adam = traces.checkpoint.split_off("adam.");
    let weights: Vec<String> = traces.checkpoint.split_off("model.").names().map(String::from).collect();
    for weight in weights.iter().filter(|weight| matters(weight)) {
        let (_, squares) =
            adam.take::<f32>(&format!("v.{weight}")).unwrap_or_else(|error| panic!("{what}: {weight} never had a gradient: {error}"));
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
fn dropout_acts_in_training_only() {
    let set = stream(100, 2, 0);
    let spec = TgnSpec { dropout: 0.5, ..small() };
    let model = model(&spec, &set, 1);
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
        values(model.forward(&queries, &history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling)), seed).scores)
    };
    assert_eq!(scores(None), scores(None));
    assert_eq!(scores(Some(1)), scores(Some(1)));
    assert_ne!(scores(Some(1)), scores(Some(2)));
    assert_ne!(scores(Some(1)), scores(None));
}

/// Values by name.
type Named = Vec<(String, Vec<f32>)>;

/// Scores and gradients of every event of a log asked about alone, and the history at the end.
fn event_by_event(spec: &TgnSpec, edge: usize) -> (Vec<Vec<f32>>, Named, Store) {
    let set = stream(60, edge, 0);
    let model = model(spec, &set, 4);
    let mut history = History::new(set.nodes, model.needs(), set.log.time()[0], features(&set));
    let (mut scores, mut gradients) = (Vec::new(), Vec::new());
    for event in 0..set.log.len() {
        let batch = set.log.batch(event..event + 1);
        let queries = Queries::of_batch(&batch, &[NodeId(14 + event as u32 % 10)], &[0, 1]);
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let forward = model.forward(&queries, &view, None);
        scores.push(values(forward.scores.clone()));
        let tape = link_loss(forward.scores, 1).backward();
        gradients.extend(gradients_of(&model, &tape).into_iter().map(|(name, gradient)| (format!("event {event}: {name}"), gradient)));
        history.observe(&batch, &forward.update).unwrap();
    }
    (scores, gradients, history.to_store())
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{what}: {a} is not {b}");
    }
}

/// With one event a batch no node has two mails, so their mean is the last: the fused kernel and the separate steps compute the same.
#[test]
fn the_fused_memory_update_is_the_stepwise_one() {
    for updater in [Updater::Gru, Updater::Rnn] {
        for (mail_memory, update_without_mail) in [(OtherMemory::AtEvent, false), (OtherMemory::AtRead, true)] {
            for edge in [0, 2] {
                let what = format!("{updater:?}, {mail_memory:?}, update without mail {update_without_mail}, {edge} edge features");
                let fused = TgnSpec { updater, mail_memory, update_without_mail, ..small() };
                let stepwise = TgnSpec { mail: Combine::Mean, ..fused.clone() };
                let (scores, gradients, mut history) = event_by_event(&fused, edge);
                let (expected_scores, expected_gradients, mut expected_history) = event_by_event(&stepwise, edge);
                assert_close(&what, &scores.concat(), &expected_scores.concat());
                let gradients: Vec<_> =
                    gradients.iter().filter(|(name, _)| expected_gradients.iter().any(|(other, _)| other == name)).collect();
                assert!(gradients.len() * 10 > expected_gradients.len() * 9, "{what}: gradients of the same weights");
                for (name, gradient) in gradients {
                    let (_, expected) = expected_gradients.iter().find(|(other, _)| other == name).unwrap();
                    assert_close(&format!("{what}, {name}"), gradient, expected);
                }
                let memory = |store: &mut Store| store.take::<f32>("memory").unwrap().1;
                assert_close(&what, &memory(&mut history), &memory(&mut expected_history));
            }
        }
    }
}
