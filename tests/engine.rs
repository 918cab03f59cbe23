//! How a server works — what it keeps, what it computes together, who asks meanwhile — shows in no answer and in no bit of its state.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tempograph_framework::{Draw, History, Purpose, RandomNumbers, Sampler, Store};
use tempograph_framework::{Lookup, Model, Side};
use tempograph_kernels::tensor::Cpu;
use tempograph_models::{FeatureWidths, SliceTgn, Tgn, TgnSpec};
use tempograph_serving::{Engine, EngineSpec, EngineStats, Export, Granularity, NewEvent, PairQuery, Position, RankQuery, Strategy};
use tempograph_tests::{features, stream, variants};

const WIDTHS: FeatureWidths = FeatureWidths { edge: 3, node: 2 };
/// Requests of one stream.
const REQUESTS: usize = 60;

/// An artifact of a fresh model that has seen nothing.
fn artifact(spec: &TgnSpec, folder: &Path) {
    let set = stream(40, WIDTHS.edge, WIDTHS.node);
    let model = Tgn::<Cpu>::new(spec, WIDTHS, 5, &Default::default());
    let history = History::new(set.nodes, model.needs(), set.log.time()[0], features(&set));
    Export { model: &model, history: &history, dataset: &set, widths: WIDTHS, batch: 24, replace: false }.write(folder).unwrap();
}

/// What a client does.
#[derive(Clone, Debug)]
enum Request {
    Tell(Vec<NewEvent>, Granularity),
    Score(Vec<PairQuery>, Vec<NewEvent>),
    Rank(RankQuery),
    Embed(u64, Side),
}

/// Requests drawn at random: few nodes and many ties, so that events meet; some ids nobody knows yet.
fn requests(seed: u64, ordered: bool) -> Vec<Request> {
    let mut draw = Draw::new(seed).of(Purpose::Negatives).at(0, 0);
    let (mut now, mut told) = (1000, Vec::<(u64, u64)>::new());
    let mut all = vec![Request::Tell((0..10).map(|i| event(i, i, now, &mut draw)).collect(), Granularity::Event)];
    told.extend((0..10).map(|i| (i, i)));
    while all.len() < REQUESTS {
        let known = |draw: &mut RandomNumbers, told: &[(u64, u64)]| {
            let [a, b] = [0; 2].map(|_| draw.below(told.len() as u32) as usize);
            (told[a].0, told[b].1)
        };
        let request = match draw.below(8) {
            0..3 => {
                let count = 1 + draw.below(12) as usize;
                let mut events = Vec::new();
                for _ in 0..count {
                    now += i64::from(draw.below(3)) * 7;
                    let new = draw.below(12) == 0;
                    let (src, dst) =
                        if new { (100 + u64::from(draw.below(9)), 200 + u64::from(draw.below(9))) } else { known(&mut draw, &told) };
                    told.push((src, dst));
                    events.push(event(src, dst, now, &mut draw));
                }
                let granularity = if draw.below(4) == 0 { Granularity::Batch } else { Granularity::Event };
                Request::Tell(events, granularity)
            }
            3..6 => {
                let later = now + i64::from(draw.below(2)) * 30;
                let queries = (0..1 + draw.below(5)).map(|_| known(&mut draw, &told));
                let queries: Vec<_> = queries.map(|(src, dst)| PairQuery { src, dst, time: Some(later.into()) }).collect();
                let shown = if draw.below(3) == 0 && !ordered { 1 } else { 0 };
                let during = (0..shown).map(|_| known(&mut draw, &told)).collect::<Vec<_>>();
                Request::Score(queries, during.into_iter().map(|(src, dst)| event(src, dst, now, &mut draw)).collect())
            }
            6 => Request::Rank(RankQuery { src: known(&mut draw, &told).0, candidates: None, time: None, k: 5 }),
            _ => Request::Embed(known(&mut draw, &told).1, Side::Destination),
        };
        all.push(request);
    }
    all
}

fn event(src: u64, dst: u64, time: i64, draw: &mut RandomNumbers) -> NewEvent {
    let features = (0..WIDTHS.edge).map(|_| draw.below(100) as f32 / 50.0 - 1.0).collect();
    NewEvent { id: None, src, dst, time: time.into(), label: 0.0, features: Some(features) }
}

/// What a client is answered: numbers to the bit, and as of when.
type Answers = Vec<(Vec<u32>, Position)>;

fn serve(folder: &Path, spec: &EngineSpec, requests: &[Request]) -> (Answers, Store, EngineStats) {
    let engine = Engine::open_with(folder, spec).unwrap();
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    let answers = requests.iter().map(|request| match request {
        Request::Tell(events, granularity) => (Vec::new(), engine.observe(events, *granularity).unwrap()),
        Request::Score(queries, during) => {
            let found = engine.score(queries, during).unwrap();
            (bits(&found.answer), found.position)
        }
        Request::Rank(query) => {
            let found = engine.rank(query).unwrap();
            let told: Vec<_> = found.answer.iter().flat_map(|ranked| [ranked.dst as u32, ranked.score.to_bits()]).collect();
            (told, found.position)
        }
        Request::Embed(node, side) => {
            let found = engine.embedding(*node, Some(*side), None).unwrap();
            (bits(&found.answer), found.position)
        }
    });
    let answers = answers.collect();
    (answers, engine.history().to_store(), engine.stats())
}

#[test]
fn no_strategy_and_no_wave_shows_in_an_answer_or_in_the_state() {
    for (name, spec) in variants() {
        let folder = tempfile::tempdir().unwrap();
        let artifact_at = folder.path().join("artifact");
        artifact(&spec, &artifact_at);
        let mut hits = 0;
        for seed in 0..2 {
            let requests = requests(seed, spec.history == Lookup::Ordered);
            let plain = EngineSpec { strategy: Strategy::Full, wave: 1, ..EngineSpec::default() };
            let (expected, state, _) = serve(&artifact_at, &plain, &requests);
            let works = [
                (Strategy::Full, 64, 0, 64),
                (Strategy::Affected, 1, 0, 64),
                (Strategy::Affected, 5, 0, 2),
                (Strategy::Cached, 64, 1, 64),
                (Strategy::Cached, 3, 2, 16),
            ];
            for (strategy, wave, precompute, kept) in works {
                let spec = EngineSpec { strategy, wave, precompute, kept, ttl: None };
                let (found, reached, stats) = serve(&artifact_at, &spec, &requests);
                for ((request, found), expected) in requests.iter().zip(found).zip(&expected) {
                    assert!(found == *expected, "{name}, {spec:?}, seed {seed}: {request:?} gave {found:?}, not {expected:?}");
                }
                hits += stats.embeddings_asked - stats.embeddings_computed;
                assert!(reached == state, "{name}, {spec:?}, seed {seed}: the states differ");
            }
        }
        let keeps = Tgn::<Cpu>::new(&spec, WIDTHS, 5, &Default::default());
        let keeps = SliceTgn::of(&keeps).is_some() && spec.sampler == Sampler::Recent && !spec.pair_features;
        assert_eq!(hits > 0, keeps, "{name}: {hits} embeddings were kept");
    }
}
