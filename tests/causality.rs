//! A score depends on the past of its own query and on nothing else.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tempograph_framework::{
    Batch, Draw, EventId, EventLog, Features, FixedNegatives, History, Lookup, Model, NegativeSet, NodeId, Purpose,
    Queries, Table, TensorScorer, Timestamp, Update, values,
};
use tempograph_kernels::Rows;
use tempograph_kernels::tensor::{AutodiffModule, Cpu};
use tempograph_models::{ProgramModule, TgnSpec};
use tempograph_tests::{features, model, small, stream, variants};
use tempograph_trainers::{EvaluationTask, evaluate, warm_up};

const EVENTS: usize = 300;
/// Events observed before the first query.
const SEEN: usize = 200;
const BATCH: usize = 30;
const EACH: usize = 3;
const EDGE: usize = 2;
const LOOKUPS: [Lookup; 3] = [Lookup::Exact, Lookup::Ordered, Lookup::Batch];

fn chance() -> tempograph_framework::PurposeDraw {
    Draw::new(0).of(Purpose::Sampling)
}

/// A model with its data, to be queried.
struct World {
    log: EventLog,
    features: Features,
    model: ProgramModule<Cpu>,
    nodes: usize,
}

impl World {
    fn new(spec: &TgnSpec) -> World {
        let set = stream(EVENTS, EDGE, 0);
        World { features: features(&set), model: model(spec, &set, 1).valid(), nodes: set.nodes, log: set.log }
    }

    fn empty(&self) -> History {
        History::new(self.nodes, Model::<Cpu>::needs(&self.model), self.log.time()[0], self.features.clone())
    }

    fn scorer(&self) -> TensorScorer<Cpu, ProgramModule<Cpu>> {
        TensorScorer::new(self.model.clone())
    }

    /// A history of the first [`SEEN`] events.
    fn seen(&self) -> History {
        let mut history = self.empty();
        assert!(warm_up(&mut self.scorer(), &mut history, &self.log, 0..SEEN, BATCH, &AtomicBool::new(false)).unwrap());
        history
    }

    /// Three negatives for an event.
    fn negatives(&self, event: usize) -> Vec<NodeId> {
        let all = self.log.destinations();
        (0..EACH).map(|n| all[(event * 7 + n * 3) % all.len()]).collect()
    }

    /// The scores of every event from [`SEEN`] on as evaluation gives them: the positive, then its negatives.
    fn evaluated(&self) -> Vec<Vec<f32>> {
        let nodes = (SEEN..EVENTS).flat_map(stream_negatives).collect();
        let negatives =
            FixedNegatives::new(EventId(SEEN as u64), nodes, (0..=EVENTS - SEEN).map(|i| EACH * i).collect()).unwrap();
        let negatives = NegativeSet::Fixed(negatives);
        let asked =
            EvaluationTask { range: SEEN..EVENTS, batch: BATCH, negatives: &negatives, rank_every: 1, new_nodes: None };
        let mut scores = Vec::new();
        let mut heard = |answers: &tempograph_trainers::BatchScores<'_>| {
            let positives = answers.queries.positives();
            let mut of_event: Vec<Vec<f32>> = answers.scores[..positives].iter().map(|&score| vec![score]).collect();
            let negatives = answers.queries.pairs()[positives..].iter().zip(&answers.scores[positives..]);
            negatives.for_each(|(pair, &score)| of_event[pair.src as usize / 2].push(score));
            scores.extend(of_event);
        };
        evaluate(&mut self.scorer(), &mut self.seen(), &self.log, &asked, &AtomicBool::new(false), &mut heard)
            .unwrap()
            .unwrap();
        scores
    }

    fn answer(&self, history: &History, queries: &Queries, during: &Batch<'_>) -> (Vec<f32>, Update) {
        let forward = Model::<Cpu>::forward(&self.model, queries, &history.view(queries, Some(during), chance()), None);
        (values(forward.scores), forward.update)
    }

    /// Queries for one event against `candidates`.
    fn about(&self, event: usize, candidates: &[NodeId]) -> Queries {
        Queries::of_batch(&self.log.batch(event..event + 1), candidates, &[0, candidates.len()])
    }
}

/// Negatives that do not depend on the log: items are nodes 14 to 23.
fn stream_negatives(event: usize) -> Vec<NodeId> {
    (0..EACH).map(|n| NodeId(14 + ((event * 7 + n * 3) % 10) as u32)).collect()
}

/// The same world, but from event `from` on with another order, other times, other ends and other features.
fn altered(world: &World, from: usize) -> World {
    let log = &world.log;
    let mut numbers = Draw::new(from as u64).of(Purpose::Generator).at(0, 0);
    let mut order: Vec<usize> = (from..log.len()).collect();
    numbers.shuffle(&mut order);
    let order: Vec<usize> = (0..from).chain(order).collect();
    let mut time = log.time()[..from].to_vec();
    let mut now = time[from - 1];
    time.extend((from..log.len()).map(|_| {
        now = Timestamp(now.0 + i64::from(numbers.below(3)));
        now
    }));
    let mut dst: Vec<NodeId> = order.iter().map(|&event| log.dst()[event]).collect();
    dst[from..].iter_mut().for_each(|node| *node = NodeId(14 + numbers.below(10)));
    let rows = log.features().unwrap();
    let mut values: Vec<f32> = order.iter().flat_map(|&event| rows.row(event as u64).to_vec()).collect();
    values[from * EDGE..].iter_mut().for_each(|value| *value += numbers.uniform());
    let table: Arc<dyn Rows> = Arc::new(Table::new(values, EDGE).unwrap());
    let src = order.iter().map(|&event| log.src()[event]).collect();
    let log = EventLog::new(src, dst, time, vec![0.0; order.len()], Some(table.clone())).unwrap();
    World {
        log,
        features: Features { edges: Some(table), ..world.features.clone() },
        model: world.model.clone(),
        nodes: world.nodes,
    }
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{what}: {a} is not {b}");
    }
}

/// Every kind of model under every lookup.
fn everything() -> impl Iterator<Item = (String, TgnSpec)> {
    let under = |(name, spec): (&'static str, TgnSpec)| {
        LOOKUPS.map(|history| (format!("{name}, {history:?}"), TgnSpec { history, ..spec.clone() }))
    };
    variants().into_iter().flat_map(under)
}

#[test]
fn altering_everything_after_an_event_changes_no_score_before_it() {
    for (name, spec) in everything() {
        let world = World::new(&spec);
        let before = world.evaluated();
        // At the start of a batch, inside one, and in the last one.
        for from in [SEEN + BATCH, SEEN + 47, SEEN + 92] {
            let after = altered(&world, from).evaluated();
            for event in SEEN..from {
                let (found, expected) = (&after[event - SEEN], &before[event - SEEN]);
                assert_close(&format!("{name}: event {event}, altered from {from}"), found, expected);
            }
            assert_ne!(after[from - SEEN..], before[from - SEEN..], "{name}: nothing was altered from {from} on");
        }
    }
}

#[test]
fn a_score_does_not_depend_on_the_other_queries() {
    for (name, spec) in everything() {
        let world = World::new(&spec);
        let history = world.seen();
        let batch = world.log.batch(SEEN..SEEN + BATCH);
        let negatives: Vec<NodeId> = (SEEN..SEEN + BATCH).flat_map(|event| world.negatives(event)).collect();
        let offsets: Vec<usize> = (0..=BATCH).map(|i| EACH * i).collect();
        let (together, update) = world.answer(&history, &Queries::of_batch(&batch, &negatives, &offsets), &batch);
        for i in 0..BATCH {
            let mut others = world.negatives(SEEN + i);
            let of_negatives = &together[BATCH + EACH * i..][..EACH];
            let (alone, alone_update) = world.answer(&history, &world.about(SEEN + i, &others), &batch);
            assert_close(&format!("{name}: positive {i} alone"), &alone[..1], &together[i..i + 1]);
            assert_close(&format!("{name}: negatives of {i} alone"), &alone[1..], of_negatives);
            others.reverse();
            let (turned, _) = world.answer(&history, &world.about(SEEN + i, &others), &batch);
            let mut expected = of_negatives.to_vec();
            expected.reverse();
            assert_close(&format!("{name}: negatives of {i} in another order"), &turned[1..], &expected);
            let (single, _) = world.answer(&history, &world.about(SEEN + i, &others[..1]), &batch);
            assert_close(
                &format!("{name}: last negative of {i} alone"),
                &single,
                &[together[i], of_negatives[EACH - 1]],
            );
            assert_same_writing(&name, &alone_update, &update, &batch);
        }
    }
}

/// The update of the batch does not depend on the queries.
fn assert_same_writing(what: &str, ours: &Update, theirs: &Update, batch: &Batch<'_>) {
    let rows = |update: &Update| -> BTreeMap<NodeId, Vec<f32>> {
        let width = update.memory.len() / update.nodes.len();
        update.nodes.iter().copied().zip(update.memory.chunks(width).map(<[f32]>::to_vec)).collect()
    };
    let (ours, theirs) = (rows(ours), rows(theirs));
    for node in batch.src.iter().chain(batch.dst) {
        assert_close(&format!("{what}: the memory of {node} to be written"), &ours[node], &theirs[node]);
    }
}

/// Columns of a batch that can be altered.
struct Columns {
    first: EventId,
    src: Vec<NodeId>,
    dst: Vec<NodeId>,
    time: Vec<Timestamp>,
    label: Vec<f32>,
}

impl Columns {
    /// `batch` with other sources and destinations in the events for which `which` holds.
    fn altered(batch: &Batch<'_>, which: impl Fn(usize) -> bool) -> Columns {
        let other = |node: &NodeId, i: usize| {
            if which(i) {
                NodeId(if node.0 < 14 { (node.0 + 5) % 14 } else { 14 + (node.0 - 14 + 3) % 10 })
            } else {
                *node
            }
        };
        let turn = |nodes: &[NodeId]| nodes.iter().enumerate().map(|(i, node)| other(node, i)).collect();
        Columns {
            first: batch.first,
            src: turn(batch.src),
            dst: turn(batch.dst),
            time: batch.time.to_vec(),
            label: batch.label.to_vec(),
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch { first: self.first, src: &self.src, dst: &self.dst, time: &self.time, label: &self.label }
    }
}

/// Which events of a batch a query about its `i`-th sees.
fn sees(lookup: Lookup, batch: &Batch<'_>, i: usize) -> Range<usize> {
    match lookup {
        Lookup::Exact => 0..batch.time.partition_point(|&time| time < batch.time[i]),
        Lookup::Ordered => 0..i,
        Lookup::Batch => 0..0,
    }
}

#[test]
fn a_score_sees_of_its_own_batch_the_earlier_events_its_lookup_allows_and_no_other() {
    let options =
        [("one layer", small()), ("two layers, pair features", TgnSpec { layers: 2, pair_features: true, ..small() })];
    for lookup in LOOKUPS {
        for (name, spec) in &options {
            let world = World::new(&TgnSpec { history: lookup, ..spec.clone() });
            let history = world.seen();
            let batch = world.log.batch(SEEN..SEEN + BATCH);
            let (mut moved, mut could_move) = (0, 0);
            for i in 0..BATCH {
                let queries = world.about(SEEN + i, &world.negatives(SEEN + i));
                let seen = sees(lookup, &batch, i);
                let scores = |during: &Batch<'_>| world.answer(&history, &queries, during).0;
                let expected = scores(&batch);
                let unseen = Columns::altered(&batch, |j| !seen.contains(&j));
                assert_close(
                    &format!("{name}, {lookup:?}: event {i} and those it must not see altered"),
                    &scores(&unseen.batch()),
                    &expected,
                );
                could_move += usize::from(!seen.is_empty());
                moved += usize::from(scores(&Columns::altered(&batch, |j| seen.contains(&j)).batch()) != expected);
            }
            match lookup {
                Lookup::Batch => assert_eq!((moved, could_move), (0, 0)),
                _ => assert!(
                    moved > 0 && could_move > BATCH / 2,
                    "{name}, {lookup:?}: {moved} of {could_move} scores saw anything"
                ),
            }
        }
    }
}
