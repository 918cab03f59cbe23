//! The fused memory update against the separate steps. In a file of its own: gradients computed here by hand must have
//! the tape of the process to themselves.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempograph_framework::{
    Combine, Draw, EventLog, History, Model, NodeId, OtherMemory, Purpose, Queries, Store, Timestamp, link_loss, values,
};
use tempograph_models::{TgnSpec, Updater};
use tempograph_tests::{features, gradients as gradients_of, model, small, stream};

/// Values by name.
type Named = Vec<(String, Vec<f32>)>;

/// Scores and gradients of every event of a log, each in a batch of its own, and the history at the end.
fn event_by_event(spec: &TgnSpec, edge: usize) -> (Vec<Vec<f32>>, Named, Store) {
    let mut set = stream(60, edge, 0);
    // Each event has a tick of its own: the mails of one tick would be averaged.
    let log = &set.log;
    let time = (0..log.len() as i64).map(|at| Timestamp(7 * at)).collect();
    set.log =
        EventLog::new(log.src().to_vec(), log.dst().to_vec(), time, log.label().to_vec(), log.features().cloned())
            .unwrap();
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
        gradients.extend(
            gradients_of(&model, &tape)
                .into_iter()
                .map(|(name, gradient)| (format!("event {event}: {name}"), gradient)),
        );
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

/// With one event a batch and a tick no node has two mails, so their mean is the last: the fused kernel and the separate steps
/// compute the same.
#[test]
fn the_fused_memory_update_is_the_stepwise_one() {
    for updater in [Updater::Gru, Updater::Rnn] {
        for (mail_memory, update_without_mail) in [(OtherMemory::AtEvent, false), (OtherMemory::AtRead, true)] {
            for edge in [0, 2] {
                let what = format!(
                    "{updater:?}, {mail_memory:?}, update without mail {update_without_mail}, {edge} edge features"
                );
                let fused = TgnSpec { updater, mail_memory, update_without_mail, ..small() };
                let stepwise = TgnSpec { mail: Combine::Mean, ..fused.clone() };
                let (scores, gradients, mut history) = event_by_event(&fused, edge);
                let (expected_scores, expected_gradients, mut expected_history) = event_by_event(&stepwise, edge);
                assert_close(&what, &scores.concat(), &expected_scores.concat());
                let gradients: Vec<_> = gradients
                    .iter()
                    .filter(|(name, _)| expected_gradients.iter().any(|(other, _)| other == name))
                    .collect();
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
