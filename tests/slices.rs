//! A TGN on slices gives the scores, the updates and the gradients of the TGN on the tape, to rounding.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use tempograph_framework::{
    Draw, ForwardOutput, History, LaneBatch, Model, NodeId, Purpose, Queries, Scorer, SliceModel, link_loss, values,
};
use tempograph_models::{
    AttentionForm, AttentionScores, FeatureWidths, ModelSpec, Precision, SliceProgram, SliceWork, StaticMemoryMode,
    StaticMemoryTrainer, TgnSpec,
};
use tempograph_tests::{
    autodiff, features, gradients, model, on_slices, slices, slices_of, small, stream, training_data, tuned, variants,
    walks,
};
use tempograph_trainers::{Learner, StepSettings, TrainingData};

/// The derivative of the link loss in each score.
fn loss_gradient(scores: &[f32], positives: usize) -> Vec<f32> {
    let share =
        |pair: usize| if pair < positives { 1.0 / positives as f32 } else { 1.0 / (scores.len() - positives) as f32 };
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let derivative =
        |(pair, &score): (usize, &f32)| (sigmoid(score) - f32::from(u8::from(pair < positives))) * share(pair);
    scores.iter().enumerate().map(derivative).collect()
}

/// Whether two arrays agree to `tolerance` of the larger one's greatest number.
fn assert_close(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{what}: length");
    let size = ours.iter().chain(theirs).fold(1e-3f32, |most, x| most.max(x.abs()));
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * size, "{what}: off by {worst:e} where numbers reach {size:e}");
}

/// The tensor library keeps the tapes of all threads in one place, and may lose a gradient of one for another. So tests
/// that use it run one at a time.
static TAPE: Mutex<()> = Mutex::new(());

/// Replays a stream with both models, with equal weights, and compares every step.
fn assert_agrees(name: &str, spec: &TgnSpec, edge: usize, node: usize) {
    assert_agrees_over(&[0..40, 40..80, 80..200, 200..260, 259..260], name, spec, edge, node);
}

fn assert_agrees_over(batches: &[Range<usize>], name: &str, spec: &TgnSpec, edge: usize, node: usize) {
    let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
    let what = format!("{name}, {edge} edge and {node} node features");
    let set = stream(batches.iter().map(|batch| batch.end).max().unwrap(), edge, node);
    let autodiff = model(spec, &set, 3);
    let slices = slices_of(&autodiff);
    let mut history = History::new(set.nodes, autodiff.needs(), set.log.time()[0], features(&set));
    let (mut work, mut found) = (SliceWork::default(), vec![f32::NAN; slices.parameters().values().len()]);
    // the last batch is smaller: what a larger one left behind must not show
    for (step, range) in batches.iter().cloned().enumerate() {
        let (batch, what) = (set.log.batch(range.clone()), format!("{what}, step {step}"));
        let negatives: Vec<NodeId> = batch.dst.iter().rev().copied().collect();
        let offsets: Vec<usize> = (0..=range.len()).collect();
        let queries = Queries::of_batch(&batch, &negatives, &offsets);
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let seed = (step % 2 == 1).then_some(step as u64);

        let forward = autodiff.forward(&queries, &view, seed);
        slices.forward(&queries, &view, seed, &mut work);
        let ForwardOutput { scores, embeddings, update, .. } = work.as_ref().clone();
        assert_close(&format!("{what}: scores"), &scores, &values(forward.scores.clone()), 2e-5);
        assert_eq!(update.nodes, forward.update.nodes, "{what}: nodes of the update");
        assert_close(&format!("{what}: memories"), &update.memory, &forward.update.memory, 2e-5);
        if seed.is_none() {
            let width = embeddings.len() / view.roots.iter().max().map_or(1, |&row| row as usize + 1);
            let ours: Vec<f32> =
                view.roots.iter().flat_map(|&row| embeddings[row as usize * width..][..width].to_vec()).collect();
            assert_close(&format!("{what}: embeddings"), &ours, &values(forward.embeddings.unwrap()), 2e-5);
        }

        let tape = link_loss(forward.scores, batch.len()).backward();
        let expected: BTreeMap<String, Vec<f32>> = gradients(&autodiff, &tape).into_iter().collect();
        slices.backward(&queries, &view, &loss_gradient(&scores, batch.len()), &mut found, &mut work);
        for part in slices.parameters().parts() {
            let zeros = vec![0.0; part.range.len()];
            let expected = expected.get(&part.name).unwrap_or(&zeros);
            assert_close(&format!("{what}: gradient of {}", part.name), &found[part.range.clone()], expected, 2e-4);
        }
        slices.advance(&queries, &view, &mut work);
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

#[test]
fn slices_agree_with_the_tape_at_the_usual_widths() {
    let widths =
        |spec: &TgnSpec| TgnSpec { memory: 100, time: 100, width: 100, neighbours: 10, dropout: 0.1, ..spec.clone() };
    for (name, spec) in variants().iter().filter(|(name, _)| ["paper", "conv, 2 layers", "as PyG"].contains(name)) {
        assert_agrees_over(&[0..600, 600..1200, 1200..1300], name, &widths(spec), 5, 0);
    }
}

/// Losses of the first steps of a training, and the weights after it.
fn losses(learner: &mut Learner, training_data: &TrainingData, batch: usize, steps: usize) -> (Vec<f32>, Vec<f32>) {
    let (log, mut history) = (&training_data.dataset.log, training_data.history(learner.needs()));
    let mut losses = Vec::new();
    for step in 0..steps {
        let batch = log.batch(step * batch..(step + 1) * batch);
        let negatives: Vec<NodeId> =
            (0..batch.len()).map(|i| log.destinations()[(i * 7 + step) % log.destinations().len()]).collect();
        let queries = Queries::of_batch(&batch, &negatives, &(0..=batch.len()).collect::<Vec<_>>());
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let settings = StepSettings { lr: 1e-3, beta_power: 1, weight_decay: 0.0, clip: 0.0 };
        let output = learner.step(&LaneBatch::single(&queries, &view, step as u64), &settings).unwrap();
        losses.push(output.loss);
        history.observe(&batch, output.update).unwrap();
    }
    let mut weights = learner.parameters().to_store();
    let names: Vec<String> = weights.names().map(String::from).collect();
    (losses, names.iter().flat_map(|name| weights.take::<f32>(name).unwrap().1).collect())
}

#[test]
fn a_hundred_steps_have_the_losses_of_the_tape() {
    let _alone = TAPE.lock().unwrap_or_else(PoisonError::into_inner);
    let dropped = TgnSpec { dropout: 0.1, ..small() };
    let conv = TgnSpec { attention: AttentionForm::TransformerConv, pair_features: true, ..dropped.clone() };
    let fine = TgnSpec { static_memory: tuned(StaticMemoryMode::Concat), ..dropped.clone() };
    let walked = TgnSpec { walks: walks(), ..dropped.clone() };
    // The fixtures' static memory is arbitrary: a hundred steps learn nothing from it.
    for (spec, learns) in [(dropped, true), (conv, true), (fine, false), (walked, true)] {
        let training_data = training_data(stream(2000, 3, 0));
        let mut autodiff = autodiff(&spec)(&training_data.dataset);
        let mut learner = on_slices(slices_of(&model(&spec, &training_data.dataset, 3)));
        let ((ours, _), (expected, _)) =
            (losses(&mut learner, &training_data, 20, 100), losses(&mut autodiff, &training_data, 20, 100));
        let fell = expected[..10].iter().sum::<f32>() - expected[90..].iter().sum::<f32>();
        assert!(!learns || fell > 0.5, "it learns: {expected:?}");
        for (step, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
            assert!((ours - expected).abs() < 2e-4 * expected, "step {step}: {ours} is not {expected}");
        }
    }
}

#[test]
fn leaky_relu_scores_are_not_the_scaled_ones() {
    let training_data = training_data(stream(200, 3, 0));
    let [scaled, leaky] = [AttentionScores::Scaled, AttentionScores::LeakyRelu].map(|attention_scores| {
        let spec = TgnSpec { attention_scores, ..small() };
        let mut learner = on_slices(slices(&spec, FeatureWidths { edge: 3, node: 0 }, 1));
        losses(&mut learner, &training_data, 20, 3).0
    });
    assert!(scaled != leaky, "{scaled:?}");
}

#[test]
fn training_has_the_same_bits_for_any_number_of_threads() {
    let wide = TgnSpec {
        memory: 40,
        time: 20,
        width: 40,
        neighbours: 10,
        attention: AttentionForm::TransformerConv,
        ..small()
    };
    let spec = TgnSpec { static_memory: tuned(StaticMemoryMode::Add), walks: walks(), pair_features: true, ..wide };
    let training_data = training_data(stream(2000, 3, 0));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut learner = on_slices(slices(&spec, FeatureWidths { edge: 3, node: 0 }, 1));
        let (losses, weights) = pool.install(|| losses(&mut learner, &training_data, 400, 5));
        losses.iter().chain(&weights).map(|x| x.to_bits()).collect::<Vec<u32>>()
    };
    let one = with(1);
    for threads in [2, 3, 5] {
        assert!(with(threads) == one, "{threads} threads train other weights than one");
    }
}

#[test]
fn static_memory_is_learned_to_the_same_bits_by_any_number_of_threads() {
    let pairs: Vec<_> = (0..2000u32).map(|i| [NodeId(i * 7 % 400), NodeId(400 + i * 11 % 300)]).collect();
    let score_grads =
        |scores: &[f32], score_grads: &mut Vec<f32>| score_grads.extend(loss_gradient(scores, scores.len() / 2));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut graph = StaticMemoryTrainer::new(700, 24, 40, 5);
        pool.install(|| (0..5).for_each(|_| graph.train_step(&pairs, 1e-2, 0.0, score_grads)));
        graph.vectors().iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
    };
    let one = with(1);
    for threads in [2, 3, 5] {
        assert!(with(threads) == one, "{threads} threads learn other vectors than one");
    }
}

#[test]
fn a_weight_that_has_changed_shows_in_the_next_pass_though_others_are_kept_packed() {
    let set = stream(120, 3, 2);
    for (name, spec) in variants() {
        let mut slices = slices(&spec, FeatureWidths { edge: 3, node: 2 }, 4);
        let mut history = History::new(set.nodes, slices.needs(), set.log.time()[0], features(&set));
        let mut work = SliceWork::default();
        let mut view_of = |range: std::ops::Range<usize>, work: &mut SliceWork, slices: &SliceProgram| {
            let batch = set.log.batch(range);
            let queries = Queries::of_batch(&batch, &[], &vec![0; batch.len() + 1]);
            let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
            slices.forward(&queries, &view, None, work);
            history.observe(&batch, &work.as_ref().update).unwrap();
            (queries, view)
        };
        view_of(0..80, &mut work, &slices);
        let (queries, view) = view_of(80..120, &mut work, &slices);
        for part in slices.parameters().parts().to_vec() {
            slices.parameters_mut().values_mut()[part.range].iter_mut().for_each(|weight| *weight += 0.1);
            let mut fresh = SliceWork::default();
            slices.forward(&queries, &view, None, &mut fresh);
            slices.forward(&queries, &view, None, &mut work);
            assert!(work.as_ref() == fresh.as_ref(), "{name}: {}", part.name);
        }
    }
}

#[test]
fn a_model_in_bfloat16_learns_what_one_in_single_precision_learns_but_for_rounding() {
    let spec = TgnSpec { memory: 40, time: 20, width: 40, neighbours: 10, dropout: 0.1, ..small() };
    let halved = TgnSpec { precision: Precision::Bf16, ..spec.clone() };
    if let Err(why) = ModelSpec::from(halved.clone()).check() {
        return println!("skipped: {why}");
    }
    let training_data = training_data(stream(2000, 3, 0));
    let [whole, halved] = [spec, halved].map(|spec| {
        let mut learner = on_slices(slices(&spec, FeatureWidths { edge: 3, node: 0 }, 1));
        losses(&mut learner, &training_data, 100, 20).0
    });
    assert!(whole != halved, "precision makes no difference");
    for (step, (ours, expected)) in halved.iter().zip(&whole).enumerate() {
        assert!((ours - expected).abs() < 1e-2 * expected, "step {step}: {ours} is far from {expected}");
    }
}
