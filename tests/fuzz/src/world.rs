//! A small model with features, and what is told to it.

use std::path::{Path, PathBuf};

use tempograph_framework::{Dataset, Features, History, SliceModel as _};
use tempograph_models::{FeatureWidths, ModelSpec, TgnSpec};
use tempograph_serving::{Engine, Export, Granularity, NewEvent};

/// Writes an artifact that has seen some events into `folder`.
pub fn artifact(folder: &Path) -> PathBuf {
    let (fresh, seen) = (folder.join("fresh"), folder.join("artifact"));
    let dataset = Dataset::from_spec("synthetic:events=200,users=10,items=8,features=2").expect("a stream");
    let spec = TgnSpec { memory: 4, time: 4, width: 4, neighbours: 3, ..TgnSpec::default() };
    let widths = FeatureWidths { edge: 2, node: 0 };
    let model = ModelSpec::from(spec).on_slices(widths, 1).expect("a model");
    let features = Features { edges: dataset.log.features().cloned(), ..Features::default() };
    let history = History::new(dataset.nodes, model.needs(), dataset.log.time()[0], features);
    Export { model: &model, history: &history, dataset: &dataset, batch: 50, replace: true }
        .write(&fresh)
        .expect("an artifact");
    let engine = Engine::open(&fresh).expect("an engine");
    engine.observe(&new_events(0..30), Granularity::Event).expect("events");
    engine.save(&seen).expect("an artifact");
    seen
}

/// Events that it takes, in order.
pub fn new_events(range: std::ops::Range<i64>) -> Vec<NewEvent> {
    let event = |i: i64| NewEvent {
        src: i as u64 % 7,
        dst: i as u64 % 5,
        time: (2_000_000_000 + i).into(),
        label: 0.0,
        features: Some(vec![0.5, -1.0]),
        id: Some(format!("event-{i}")),
    };
    range.map(event).collect()
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a file");
        }
    }
}
