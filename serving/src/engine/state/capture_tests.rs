//! A copy that is made while events continue is of the position at which it began.

use serde_json::Number;
use tempograph_framework::{
    Dataset, Draw, Features, History, OtherMemory, Purpose, RandomNumbers, Sampler, SliceModel, Store,
};
use tempograph_models::{FeatureWidths, ModelSpec, TgnSpec, WalkSpec};

use crate::engine::save::Files;
use crate::engine::{Engine, EngineSpec, Retraction};
use crate::{Export, Granularity, NewEvent};

/// Rows copied at a time here: few, so that many events are applied between parts.
const AT_ONCE: usize = 8;

/// An engine without events, for a data set of 300 nodes.
fn engine(spec: TgnSpec) -> (tempfile::TempDir, Engine) {
    engine_working(spec, &EngineSpec::default())
}

/// The same, with the settings `how`.
pub(crate) fn engine_working(spec: TgnSpec, how: &EngineSpec) -> (tempfile::TempDir, Engine) {
    let spec = TgnSpec { memory: 3, time: 4, width: 4, neighbours: 3, ..spec };
    let set = Dataset::from_spec("synthetic:events=10,users=200,items=100").unwrap();
    let model = ModelSpec::from(spec).on_slices(FeatureWidths::default(), 5).unwrap();
    let history = History::new(set.nodes, model.needs(), set.log.time()[0], Features::default());
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("artifact");
    Export { model: &model, history: &history, dataset: &set, batch: 5, replace: false }.write(&artifact).unwrap();
    (folder, Engine::open_with(&artifact, how).unwrap())
}

/// Random events, retractions and expiries.
pub(crate) struct RandomWorkload {
    chance: RandomNumbers,
    now: i64,
    observed: Vec<Retraction>,
    /// Whether nodes may be expired.
    forgets: bool,
}

impl RandomWorkload {
    /// Begins with some events, on an engine without events.
    pub fn begin(engine: &Engine, spec: &TgnSpec, seed: u64) -> RandomWorkload {
        let chance = Draw::new(seed).of(Purpose::Generator).at(0, 0);
        let mut story = RandomWorkload {
            chance,
            now: 2_000_000_000,
            observed: Vec::new(),
            forgets: spec.sampler == Sampler::Recent,
        };
        story.observe(engine, Granularity::Event);
        (0..40).for_each(|_| story.step(engine));
        story
    }

    /// Some events, a retraction or an expiry.
    pub fn step(&mut self, engine: &Engine) {
        match self.chance.below(12) {
            0 => self.retract(engine),
            1 if self.forgets => _ = engine.expire(&Number::from(self.now - 40)).unwrap(),
            2 => self.observe(engine, Granularity::Batch),
            _ => self.observe(engine, Granularity::Event),
        }
    }

    fn observe(&mut self, engine: &Engine, granularity: Granularity) {
        let first = engine.position().log_seq;
        let count = 1 + self.chance.below(9);
        let events: Vec<NewEvent> = (0..count).map(|_| self.event()).collect();
        engine.observe(&events, granularity).unwrap();
        self.observed.extend(events.iter().zip(first..).map(|(event, seq)| Retraction {
            seq,
            src: event.src.clone(),
            dst: event.dst.clone(),
        }));
    }

    /// Half of all events are of a few nodes, some are of new nodes; many have the time of the event before.
    fn event(&mut self) -> NewEvent {
        self.now += i64::from(self.chance.below(3));
        let mut node =
            |all: u32| u64::from(if self.chance.below(2) == 0 { self.chance.below(6) } else { self.chance.below(all) });
        let (src, dst) = (node(260).into(), node(130).into());
        NewEvent { src, dst, time: Number::from(self.now), label: 0.0, features: None, id: None }
    }

    fn retract(&mut self, engine: &Engine) {
        let taken: Vec<Retraction> =
            (0..2).map(|_| self.observed[self.chance.below(self.observed.len() as u32) as usize].clone()).collect();
        // A node of these events may be expired by now, and is then unknown.
        let _ = engine.retract(&taken);
    }
}

/// The current state.
fn stored_state(engine: &Engine) -> (Store, Store) {
    let state = engine.state().unwrap();
    (state.history.to_store(), state.names.to_store())
}

#[test]
fn a_capture_holds_the_history_as_it_was_at_its_beginning() {
    let variants = [
        TgnSpec::default(),
        TgnSpec { mail_memory: OtherMemory::AtRead, ..TgnSpec::default() },
        TgnSpec { pair_features: true, ..TgnSpec::default() },
        TgnSpec { walks: Some(WalkSpec { layers: 2, width: 6, ..WalkSpec::default() }), ..TgnSpec::default() },
        TgnSpec { sampler: Sampler::Uniform, ..TgnSpec::default() },
        TgnSpec { sampler: Sampler::Uniform, pair_features: true, ..TgnSpec::default() },
    ];
    for (seed, spec) in (0..4).flat_map(|seed| variants.iter().map(move |spec| (seed, spec))) {
        let (folder, engine) = engine(spec.clone());
        let mut story = RandomWorkload::begin(&engine, spec, seed);
        for round in 0..3 {
            let expected = stored_state(&engine);
            let copied = copy(&engine, folder.path(), &mut story);
            assert!(copied == expected, "seed {seed}, round {round}: {spec:?}");
            assert!(stored_state(&engine) != expected, "nothing has happened meanwhile");
        }
    }
}

/// A copy, with events applied between its parts.
fn copy(engine: &Engine, folder: &std::path::Path, story: &mut RandomWorkload) -> (Store, Store) {
    engine.begin(AT_ONCE).unwrap();
    let mut files = Files::create(folder, false).unwrap();
    loop {
        story.step(engine);
        let pieces = engine.next_pieces().unwrap();
        if pieces.is_empty() {
            break;
        }
        pieces.iter().for_each(|piece| files.put(piece).unwrap());
    }
    let [history, ids] = ["history", "ids"].map(|name| folder.join(name));
    files.history.write(&history).unwrap();
    files.ids.write(&ids).unwrap();
    (Store::read(&history).unwrap(), Store::read(&ids).unwrap())
}
