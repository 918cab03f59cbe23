//! A server's memory is bit for bit that of the trainer.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tempograph_framework::{Dataset, Draw, History, LaneBatch, NodeId, Purpose, Queries, Scorer};
use tempograph_models::{FeatureWidths, SliceProgram};
use tempograph_serving::{Engine, Export, ExternalId, Granularity, NewEvent};
use tempograph_tests::{features, on_slices, slices, stream, variants};
use tempograph_trainers::{StepSettings, warm_up};

/// Events of the log, events that the artifact has observed, and events of a batch.
const EVENTS: usize = 260;
const SEEN: usize = 96;
const BATCH: usize = 24;

const WIDTHS: FeatureWidths = FeatureWidths { edge: 3, node: 2 };

fn fresh(set: &Dataset, model: &dyn Scorer) -> History {
    History::new(set.nodes, model.needs(), set.log.time()[0], features(set))
}

fn walk(set: &Dataset, model: &mut dyn Scorer, history: &mut History, range: Range<usize>) {
    assert!(warm_up(model, history, &set.log, range, BATCH, &AtomicBool::new(false)).unwrap());
}

/// Replays the log as training does, with a learning rate of 0.
fn train(set: &Dataset, model: SliceProgram) -> History {
    let mut learner = on_slices(model);
    let mut history = fresh(set, &learner);
    for start in (0..EVENTS).step_by(BATCH) {
        let batch = set.log.batch(start..(start + BATCH).min(EVENTS));
        let negatives: Vec<NodeId> = batch.dst.iter().rev().copied().collect();
        let queries = Queries::of_batch(&batch, &negatives, &(0..=batch.len()).collect::<Vec<_>>());
        let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
        let settings = StepSettings { lr: 0.0, beta_power: 1, weight_decay: 0.0, clip: 1.0 };
        let output = learner.step(&LaneBatch::single(&queries, &view, start as u64), &settings).unwrap();
        history.observe(&batch, output.update).unwrap();
    }
    history
}

/// Submits the rest of the log to a server whose state is `history`.
fn serve(set: &Dataset, model: &SliceProgram, history: &History, folder: &Path) -> Engine {
    Export { model, history, dataset: set, batch: BATCH, replace: false }.write(folder).unwrap();
    let engine = Engine::open(folder).unwrap();
    for start in (SEEN..EVENTS).step_by(BATCH) {
        let events: Vec<NewEvent> = (start..(start + BATCH).min(EVENTS)).map(|event| new_event(set, event)).collect();
        engine.observe(&events, Granularity::Batch).unwrap();
    }
    engine
}

fn new_event(set: &Dataset, event: usize) -> NewEvent {
    let (log, ids) = (&set.log, &set.ids);
    let features = log.features().map(|rows| rows.row(event as u64).to_vec());
    let time = log.time()[event].0.into();
    NewEvent {
        src: ExternalId::of(ids, log.src()[event]),
        dst: ExternalId::of(ids, log.dst()[event]),
        time,
        label: log.label()[event],
        features,
        id: None,
    }
}

fn bits(history: &History) -> Vec<u32> {
    history.memory().iter().map(|number| number.to_bits()).collect()
}

#[test]
fn a_server_told_what_the_trainer_saw_has_the_same_memory_bit_for_bit() {
    let set = stream(EVENTS, WIDTHS.edge, WIDTHS.node);
    for (name, spec) in variants() {
        let model = slices(&spec, WIDTHS, 5);
        let mut scorer: Box<dyn Scorer> = Box::new(on_slices(model.clone()));
        let mut history = fresh(&set, scorer.as_ref());
        walk(&set, scorer.as_mut(), &mut history, 0..SEEN);
        let folder = tempfile::tempdir().unwrap();
        let engine = serve(&set, &model, &history, &folder.path().join("artifact"));
        walk(&set, scorer.as_mut(), &mut history, SEEN..EVENTS);

        assert!(history.memory().iter().any(|&number| number != 0.0), "{name}: there is something to compare");
        assert!(
            bits(&engine.history()) == bits(&history),
            "{name}: memories differ from those of a walk that asks nothing"
        );
        assert!(engine.history().to_store() == history.to_store(), "{name}: histories differ");
        assert!(bits(&engine.history()) == bits(&train(&set, model)), "{name}: memories differ from those of training");
    }
}
