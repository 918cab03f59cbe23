//! Caches, batching and concurrent readers of a server change no answer and no bit of its state.
#![allow(clippy::unwrap_used, reason = "tests")]

mod readers;

use std::path::Path;

use tempograph_framework::{Draw, History, Purpose, RandomNumbers, Sampler, Store};
use tempograph_framework::{Lookup, Side, SliceModel};
use tempograph_models::{FeatureWidths, TgnSpec};
use tempograph_serving::{
    Engine, EngineSpec, EngineStats, Export, Granularity, NewEvent, PairQuery, Position, RankQuery, Retraction,
    Strategy,
};
use tempograph_tests::{features, slices, stream, variants};

const WIDTHS: FeatureWidths = FeatureWidths { edge: 3, node: 2 };
/// Requests of one stream.
const REQUESTS: usize = 60;

/// An artifact of a fresh model with an empty history.
fn artifact(spec: &TgnSpec, folder: &Path) {
    artifact_of(spec, WIDTHS, folder);
}

fn artifact_of(spec: &TgnSpec, widths: FeatureWidths, folder: &Path) {
    let set = stream(40, widths.edge, widths.node);
    let model = slices(spec, widths, 5);
    let history = History::new(set.nodes, model.needs(), set.log.time()[0], features(&set));
    Export { model: &model, history: &history, dataset: &set, batch: 24, replace: false }.write(folder).unwrap();
}

/// A request of a client.
#[derive(Clone, Debug)]
enum Request {
    Tell(Vec<NewEvent>, Granularity),
    Score(Vec<PairQuery>, Vec<NewEvent>),
    Rank(RankQuery),
    Embed(u64, Side),
}

/// Random requests: few nodes and many equal times, so that events share nodes; some ids are not known yet.
fn requests(seed: u64, ordered: bool) -> Vec<Request> {
    let mut draw = Draw::new(seed).of(Purpose::Negatives).at(0, 0);
    let (mut now, mut context) = (1000, Vec::<(u64, u64)>::new());
    let mut all = vec![Request::Tell((0..10).map(|i| event(i, i, now, &mut draw)).collect(), Granularity::Event)];
    context.extend((0..10).map(|i| (i, i)));
    while all.len() < REQUESTS {
        let known = |draw: &mut RandomNumbers, context: &[(u64, u64)]| {
            let [a, b] = [0; 2].map(|_| draw.below(context.len() as u32) as usize);
            (context[a].0, context[b].1)
        };
        let request = match draw.below(8) {
            0..3 => {
                let count = 1 + draw.below(12) as usize;
                let mut events = Vec::new();
                for _ in 0..count {
                    now += i64::from(draw.below(3)) * 7;
                    let new = draw.below(12) == 0;
                    let (src, dst) = if new {
                        (100 + u64::from(draw.below(9)), 200 + u64::from(draw.below(9)))
                    } else {
                        known(&mut draw, &context)
                    };
                    context.push((src, dst));
                    events.push(event(src, dst, now, &mut draw));
                }
                let granularity = if draw.below(4) == 0 { Granularity::Batch } else { Granularity::Event };
                Request::Tell(events, granularity)
            }
            3..6 => {
                let later = now + i64::from(draw.below(2)) * 30;
                let queries = (0..1 + draw.below(5)).map(|_| known(&mut draw, &context));
                let queries: Vec<_> = queries
                    .map(|(src, dst)| PairQuery { src: src.into(), dst: dst.into(), time: Some(later.into()) })
                    .collect();
                let shown = if draw.below(3) == 0 && !ordered { 1 } else { 0 };
                let during = (0..shown).map(|_| known(&mut draw, &context)).collect::<Vec<_>>();
                Request::Score(queries, during.into_iter().map(|(src, dst)| event(src, dst, now, &mut draw)).collect())
            }
            6 => Request::Rank(RankQuery {
                src: known(&mut draw, &context).0.into(),
                candidates: None,
                time: None,
                k: 5,
            }),
            _ => Request::Embed(known(&mut draw, &context).1, Side::Destination),
        };
        all.push(request);
    }
    all
}

fn event(src: u64, dst: u64, time: i64, draw: &mut RandomNumbers) -> NewEvent {
    let features = (0..WIDTHS.edge).map(|_| draw.below(100) as f32 / 50.0 - 1.0).collect();
    NewEvent { id: None, src: src.into(), dst: dst.into(), time: time.into(), label: 0.0, features: Some(features) }
}

/// An answer: the bits of its numbers, and its position.
type Found = (Vec<u32>, Position);

fn serve(folder: &Path, spec: &EngineSpec, requests: &[Request]) -> (Vec<Found>, Store, EngineStats) {
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
            let context: Vec<_> = found
                .answer
                .iter()
                .flat_map(|ranked| [ranked.dst.number().unwrap() as u32, ranked.score.to_bits()])
                .collect();
            (context, found.position)
        }
        Request::Embed(node, side) => {
            let found = engine.embedding(&(*node).into(), Some(*side), None).unwrap();
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
                    assert!(
                        found == *expected,
                        "{name}, {spec:?}, seed {seed}: {request:?} gave {found:?}, not {expected:?}"
                    );
                }
                hits += stats.embeddings_asked - stats.embeddings_computed;
                assert!(reached == state, "{name}, {spec:?}, seed {seed}: the states differ");
            }
        }
        let keeps = spec.sampler == Sampler::Recent && !spec.pair_features && spec.walks.is_none();
        assert_eq!(hits > 0, keeps, "{name}: {hits} embeddings were kept");
    }
}

/// A reader's query: three kinds, each about known nodes and later than all events.
fn ask(engine: &Engine, question: usize, later: i64) -> Found {
    let (src, dst) = ((question % 7) as u64, (question % 5) as u64);
    let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect();
    match question % 3 {
        0 => {
            let pair = |dst: u64| PairQuery { src: src.into(), dst: dst.into(), time: Some(later.into()) };
            let found = engine.score(&[pair(dst), pair((dst + 1) % 5)], &[]).unwrap();
            (bits(found.answer), found.position)
        }
        1 => {
            let found = engine.embedding(&dst.into(), Some(Side::Destination), Some(&later.into())).unwrap();
            (bits(found.answer), found.position)
        }
        _ => {
            let found = engine.top_k(&src.into(), 3, Some(&later.into())).unwrap();
            (
                found
                    .answer
                    .iter()
                    .flat_map(|ranked| [ranked.dst.number().unwrap() as u32, ranked.score.to_bits()])
                    .collect(),
                found.position,
            )
        }
    }
}

#[test]
fn an_event_taken_back_is_as_if_it_had_never_come_but_for_what_was_made_of_it() {
    // Long lists, so that no event has replaced an older one.
    let variants = variants().into_iter().map(|(name, spec)| (name, TgnSpec { neighbours: 40, ..spec }));
    for (name, spec) in
        variants.filter(|(name, _)| ["paper, 2 layers", "pair features", "uniform", "conv"].contains(name))
    {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("artifact");
        artifact(&spec, &at);
        let mut draw = Draw::new(3).of(Purpose::Negatives).at(0, 0);
        let events: Vec<_> = (0..40).map(|i| event(i % 9, i % 7, 1000 + i as i64, &mut draw)).collect();
        let (taken, after) = (event(3, 5, 2000, &mut draw), event(8, 6, 2010, &mut draw));
        let retraction = Retraction { seq: 40, src: 3.into(), dst: 5.into() };
        for settled in [false, true] {
            let [plain, context] = [0, 1].map(|_| Engine::open(&at).unwrap());
            for engine in [&plain, &context] {
                engine.observe(&events, Granularity::Event).unwrap();
            }
            context.observe(std::slice::from_ref(&taken), Granularity::Event).unwrap();
            if settled {
                for engine in [&plain, &context] {
                    engine.observe(std::slice::from_ref(&after), Granularity::Event).unwrap();
                }
            }
            let differs =
                |a: &Engine, b: &Engine| (0..21).any(|question| ask(a, question, 3000).0 != ask(b, question, 3000).0);
            assert!(differs(&plain, &context), "{name}: the event shows");
            assert_eq!(context.retract(std::slice::from_ref(&retraction)).unwrap().answer, 1, "{name}, {settled}");
            assert!(!differs(&plain, &context), "{name}, settled {settled}: the event still shows");
            let before = context.position();
            assert_eq!(context.retract(std::slice::from_ref(&retraction)).unwrap().answer, 0, "{name}: twice is once");
            assert_eq!(
                (context.position(), context.newest()),
                (before, Some((if settled { 2010 } else { 2000 }).into())),
                "{name}"
            );
            context.save(&folder.path().join("saved")).unwrap();
            let opened = Engine::open(&folder.path().join("saved")).unwrap();
            for engine in [&context, &opened] {
                engine
                    .observe(
                        &[event(3, 6, 2500, &mut Draw::new(9).of(Purpose::Negatives).at(0, 0))],
                        Granularity::Event,
                    )
                    .unwrap();
            }
            assert!(
                opened.history().to_store() == context.history().to_store(),
                "{name}: a retraction survives the artifact"
            );
        }
        let context = Engine::open(&at).unwrap();
        context.observe(&events, Granularity::Event).unwrap();
        let unknown = Retraction { dst: 99.into(), ..retraction.clone() };
        assert_eq!(
            context.retract(&[unknown]).unwrap_err().to_string(),
            "retractions[0].dst: no destination has the id 99"
        );
    }
}

#[test]
fn an_explanation_names_the_newest_neighbours_with_weights_that_sum_to_one() {
    for (name, spec) in variants().into_iter().filter(|(name, _)| name.starts_with("paper") || name.starts_with("conv"))
    {
        let folder = tempfile::tempdir().unwrap();
        artifact(&spec, &folder.path().join("artifact"));
        let engine = Engine::open(&folder.path().join("artifact")).unwrap();
        let mut draw = Draw::new(3).of(Purpose::Negatives).at(0, 0);
        let events: Vec<_> = (0..40).map(|i| event(i % 4, i % 3, 1000 + i as i64, &mut draw)).collect();
        engine.observe(&events, Granularity::Event).unwrap();
        let query = PairQuery { src: 2.into(), dst: 1.into(), time: None };
        let explained = engine.explain(&query).unwrap();
        assert_eq!(vec![explained.answer.score], engine.score(&[query], &[]).unwrap().answer, "{name}");
        let of_src: Vec<_> =
            events.iter().enumerate().rev().filter(|(_, event)| event.src == 2).take(spec.neighbours).collect();
        let found = &explained.answer.src;
        let context: Vec<_> =
            found.iter().map(|one| (one.seq as usize, one.node.clone(), one.time.clone().unwrap())).collect();
        assert_eq!(
            context,
            of_src.iter().map(|(at, event)| (*at, event.dst.clone(), event.time.clone())).collect::<Vec<_>>(),
            "{name}"
        );
        for layer in 0..spec.layers {
            for head in 0..spec.heads {
                let sum: f32 = found.iter().map(|one| one.weights[layer][head]).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{name}: head {head} of layer {layer} sums to {sum}");
            }
        }
        assert!(
            explained.answer.dst.iter().all(|one| one.side == Side::Source && one.weights.len() == spec.layers),
            "{name}"
        );
    }
}

#[test]
fn a_node_forgotten_is_a_new_one_and_its_room_is_given_to_the_next() {
    let spec = variants().remove(1).1;
    let mut draw = Draw::new(3).of(Purpose::Negatives).at(0, 0);
    let early: Vec<_> = (0..12).map(|i| event(100 + i % 3, i % 4, 1000 + i as i64, &mut draw)).collect();
    let late: Vec<_> = (0..8).map(|i| event(i % 4, i % 4, 2000 + i as i64, &mut draw)).collect();
    // Where nodes have features, their slots are not reused.
    for (strategy, node) in [(Strategy::Full, 0), (Strategy::Affected, 0), (Strategy::Affected, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("artifact");
        artifact_of(&spec, FeatureWidths { node, ..WIDTHS }, &at);
        let engine =
            Engine::open_with(&at, &EngineSpec { strategy, ttl: Some(500.0), ..EngineSpec::default() }).unwrap();
        engine.observe(&early, Granularity::Event).unwrap();
        engine.observe(&late, Granularity::Event).unwrap();
        let neighbours = |engine: &Engine| {
            let explained = engine.explain(&PairQuery { src: 1.into(), dst: 1.into(), time: None }).unwrap().answer;
            explained.dst.iter().map(|one| one.node.number().unwrap()).collect::<Vec<_>>()
        };
        ask(&engine, 3, 3000);
        assert!(neighbours(&engine).iter().any(|&node| node >= 100), "{strategy:?}");
        let before = engine.overdue().unwrap();
        assert_eq!(
            engine.expire(&before).unwrap().answer,
            3,
            "{strategy:?}: the three that came early and never again"
        );
        assert_eq!(engine.expire(&before).unwrap().answer, 0, "{strategy:?}: twice is once");
        assert!(neighbours(&engine).iter().all(|&node| node < 100), "{strategy:?}");
        engine.save(&folder.path().join("saved")).unwrap();
        let opened = Engine::open_with(&folder.path().join("saved"), engine.spec()).unwrap();
        let nodes = engine.nodes();
        let back = [event(101, 2, 2100, &mut draw), event(300, 2, 2101, &mut draw)];
        for engine in [&engine, &opened] {
            engine.observe(&back, Granularity::Event).unwrap();
        }
        assert!(
            opened.history().to_store() == engine.history().to_store(),
            "{strategy:?}: what was forgotten stays so in an artifact"
        );
        assert_eq!(engine.nodes() - nodes, if node > 0 { 1 } else { 0 }, "{strategy:?}: 101 and 300 are new");
        let explained = engine.explain(&PairQuery { src: 101.into(), dst: 2.into(), time: None }).unwrap().answer;
        assert_eq!(
            explained.src.iter().map(|one| one.seq).collect::<Vec<_>>(),
            [20],
            "{strategy:?}: it remembers nothing from before"
        );
        assert_eq!(ask(&engine, 3, 3000), ask(&opened, 3, 3000));
    }
}

/// Resident memory of this process in bytes, if the system reports it.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    line.unwrap_or(0) << 10
}

/// `NODES=10000000 WIDTH=100 cargo test --release -p tempograph-tests --test engine -- --ignored --nocapture
/// memory_of_many_nodes`
#[test]
#[ignore = "measures, for minutes"]
fn memory_of_many_nodes_that_all_have_met_somebody() {
    let set = |name: &str, default: usize| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let (nodes, width) = (set("NODES", 1_000_000), set("WIDTH", 100));
    let spec = TgnSpec { memory: width, time: width, width, heads: 2, ..TgnSpec::default() };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("artifact");
    artifact_of(&spec, FeatureWidths::default(), &at);
    let engine = Engine::open(&at).unwrap();
    let before = resident();
    let begun = std::time::Instant::now();
    let tell = |i: u64| NewEvent {
        id: None,
        src: (100 + i).into(),
        dst: (100 + i).into(),
        time: (1000 + i).into(),
        label: 0.0,
        features: None,
    };
    let mut times = Vec::new();
    for first in (0..nodes as u64 / 2).step_by(4096) {
        let events: Vec<NewEvent> = (first..(first + 4096).min(nodes as u64 / 2)).map(tell).collect();
        let begun = std::time::Instant::now();
        engine.observe(&events, Granularity::Event).unwrap();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let [median, most] = [times[times.len() / 2], times[times.len() - 1]];
    let alone = engine.stats().longest_alone_us as f64 / 1e3;
    println!(
        "4096 events with new nodes at a time: {median:.1} ms, at most {most:.1} ms, of which reads were kept out for at most {alone:.1} ms"
    );
    let (seconds, taken, held) = (begun.elapsed().as_secs_f64(), resident() - before, engine.nodes());
    let first = engine.score(&[PairQuery { src: 100.into(), dst: 100.into(), time: None }], &[]).unwrap();
    println!(
        "{held} nodes of width {width}: {} MB more, {} bytes a node; told in {seconds:.0} s",
        taken >> 20,
        taken / held
    );
    assert!(first.answer[0].is_finite() && held >= nodes);
}
