//! A TGN on slices is the TGN: the same scores, the same update, the same gradients as on the tape, to rounding.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use tempograph_framework::{Answer, Draw, History, Model, NodeId, Purpose, Queries, SliceModel, values, weights, with_weights};
use tempograph_kernels::tensor::Cpu;
use tempograph_models::{FeatureWidths, SliceTgn, SliceWork, Tgn, TgnSpec};
use tempograph_tests::{features, gradients, model, stream, variants};
use tempograph_trainers::link_loss;

/// The derivative of the link loss in each score.
fn loss_gradient(scores: &[f32], positives: usize) -> Vec<f32> {
    let share = |pair: usize| if pair < positives { 1.0 / positives as f32 } else { 1.0 / (scores.len() - positives) as f32 };
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let derivative = |(pair, &score): (usize, &f32)| (sigmoid(score) - f32::from(u8::from(pair < positives))) * share(pair);
    scores.iter().enumerate().map(derivative).collect()
}

/// Whether two arrays agree to `tolerance` of the larger one's greatest number.
fn assert_close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}: length");
    let size = ours.iter().chain(theirs).fold(1e-3f32, |most, x| most.max(x.abs()));
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * size, "{what}: off by {worst:e} where numbers reach {size:e}");
}

/// Walks over a stream with both models, weights alike, and compares every step.
fn assert_agrees(name: &str, spec: &TgnSpec, edge: usize, node: usize) {
    let what = format!("{name}, {edge} edge and {node} node features");
    let set = stream(260, edge, node);
    let taped = model(spec, &set, 3);
    let plain = with_weights(Tgn::<Cpu>::new(spec, FeatureWidths { edge, node }, 4, &Default::default()), weights(&taped)).unwrap();
    let Some(slices) = SliceTgn::of(&plain) else {
        assert!(["sum", "mean", "mlp"].iter().any(|part| name.contains(part)), "{what} is not on slices");
        return;
    };
    let mut history = History::new(set.nodes, taped.needs(), set.log.time()[0], features(&set));
    let (mut work, mut found) = (SliceWork::default(), vec![f32::NAN; slices.parameters().values.len()]);
    // the last batch is smaller: what a larger one left behind must not show
    for (step, range) in [0..40, 40..80, 80..200, 200..260, 259..260].into_iter().enumerate() {
        let (batch, what) = (set.log.batch(range.clone()), format!("{what}, step {step}"));
        let negatives: Vec<NodeId> = batch.dst.iter().rev().copied().collect();
        let offsets: Vec<usize> = (0..=range.len()).collect();
        let queries = Queries::of_batch(&batch, &negatives, &offsets);
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let seed = (step % 2 == 1).then_some(step as u64);

        let forward = taped.forward(&queries, &view, seed);
        slices.forward(&queries, &view, seed, &mut work);
        let Answer { scores, embeddings, update } = work.as_ref().clone();
        assert_close(&format!("{what}: scores"), &scores, &values(forward.scores.clone()), 2e-5);
        assert_eq!(update.nodes, forward.update.nodes, "{what}: nodes of the update");
        assert_close(&format!("{what}: memories"), &update.memory, &forward.update.memory, 2e-5);
        if seed.is_none() {
            let width = embeddings.len() / view.roots.iter().max().map_or(1, |&row| row as usize + 1);
            let ours: Vec<f32> = view.roots.iter().flat_map(|&row| embeddings[row as usize * width..][..width].to_vec()).collect();
            assert_close(&format!("{what}: embeddings"), &ours, &values(forward.embeddings.unwrap()), 2e-5);
        }

        let tape = link_loss(forward.scores, batch.len()).backward();
        let expected: BTreeMap<String, Vec<f32>> = gradients(&taped, &tape).into_iter().collect();
        slices.backward(&queries, &view, &loss_gradient(&scores, batch.len()), &mut found, &mut work);
        for part in slices.parameters().parts() {
            let zeros = vec![0.0; part.range.len()];
            let expected = expected.get(&part.name).unwrap_or(&zeros);
            assert_close(&format!("{what}: gradient of {}", part.name), &found[part.range.clone()], expected, 2e-4);
        }
        slices.advance(&view, &mut work);
        assert_eq!(work.as_ref().update.memory, update.memory, "{what}: advancing gives other memories than answering");
        if range.end > history.seen() as usize {
            history.observe(&batch, &update).unwrap();
        }
    }
}

#[test]
fn slices_agree_with_the_tape_in_every_variant() {
    for (name, spec) in variants() {
        for (edge, node) in [(3, 0), (0, 0), (3, 2)] {
            assert_agrees(name, &spec, edge, node);
        }
        assert_agrees(name, &TgnSpec { dropout: 0.3, ..spec }, 3, 0);
    }
}
