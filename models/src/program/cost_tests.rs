//! Costs counted by hand and by loops.
#![allow(clippy::unwrap_used, reason = "tests")]

use tempograph_framework::{Combine, Dataset, Draw, Features, History, NodeId, Purpose, Queries, SliceModel, Update};

use super::*;
use crate::executor::SliceProgram;
use crate::kinds::graphmixer::GraphMixerSpec;
use crate::kinds::tgn::{Embedding, TgnSpec};
use crate::operation::{FeatureWidths, HopSizes};
use crate::program::ModelSpec;
use crate::settings::{AttentionForm, Message, StaticMemoryMode, StaticSpec, Updater};

/// Cost of a step with these settings.
fn step_cost(spec: &TgnSpec, features: FeatureWidths, sizes: &StepSizes) -> StepCost {
    ModelSpec::from(spec.clone()).program(features).unwrap().cost(sizes)
}

/// Multiply-adds, counted one by one by loops over the shapes.
#[derive(Default)]
struct Tally(u64);

impl Tally {
    /// Runs the loops of a product `[m, k] [k, n]`.
    fn product(&mut self, m: usize, k: usize, n: usize) {
        for _ in 0..m {
            for _ in 0..n {
                for _ in 0..k {
                    self.0 += 1;
                }
            }
        }
    }
}

fn hop(centres: usize, neighbours: usize) -> HopSizes {
    HopSizes { centres: centres as f64, neighbours: neighbours as f64 }
}

fn sizes() -> StepSizes {
    StepSizes {
        nodes: 9.0,
        written: 4.0,
        receivers: 5.0,
        silent: 2.0,
        mails: 5.0,
        hops: vec![hop(6, 11)],
        window: 0.0,
        feature_rows: 8.0,
        pairs: 4.0,
        sources: 2.0,
        destinations: 3.0,
    }
}

#[test]
fn a_tiny_step_costs_what_a_hand_counts() {
    let spec = TgnSpec { memory: 2, time: 1, width: 2, heads: 1, ..TgnSpec::default() };
    let cost = step_cost(&spec, FeatureWidths { edge: 3, node: 0 }, &sizes());
    // memory: 5 receivers x [8 -> 6] and [2 -> 2], 2 silent x [2 -> 6]
    let memory = 5 * 48 + 5 * 4 + 2 * 12;
    // x = 2 + 3 + 1: query 4, its time column 2 once, through the keys 12, values 12; merge: 4 + 8 + 4; 11 neighbours
    // score and sum 6 each
    let attention = 6 * (4 + 12 + 12 + 4 + 8 + 4) + 2 + 11 * 12;
    let decoder = (2 + 3) * 4 + 4 * 2;
    assert_eq!(cost.forward, 2.0 * f64::from(memory + attention + decoder));
    // weights again and the time column of the message; maps twice; the sums' gradients and those of 3 of 6 columns
    let attention = 2 * (6 * (4 + 12 + 12 + 4 + 8 + 4) + 2) + 11 * (12 + 6);
    assert_eq!(cost.backward, 2.0 * f64::from(memory + 5 * 6 + attention + 2 * decoder));
    let weights = 2 + (9 * 6 + 3 * 6) + (4 * 2 + 7 * 2 * 2 + 3 * 2 * 2 + 5 * 2) + (2 * 3 * 2 + 3);
    assert_eq!(cost.optimiser, 14.0 * f64::from(weights));
    let bytes = 32 * weights + 9 * 8 + 5 * (28 + 8) + 11 * 20 + 8 * 12 + 4 * (8 + 28 + 8);
    assert_eq!(cost.bytes, f64::from(bytes));
}

/// The forward pass of a one-layer TGN with paper attention, product by product. Heads and gates are separate. Only
/// products that read the same row are merged.
fn counted_forward(spec: &TgnSpec, edge: usize, mails: usize, hop: [usize; 2], ends: usize, pairs: usize) -> u64 {
    let (d, t, o, heads) = (spec.memory, spec.time, spec.width, spec.heads);
    let mut tally = Tally::default();
    for _gate in ["r", "z"] {
        // own memory under the sum of two matrices, the rest of the message
        tally.product(mails, d, d);
        tally.product(mails, d + edge + t, d);
    }
    tally.product(mails, 2 * d + edge + t, d);
    tally.product(mails, d, d);
    let [centres, neighbours] = hop;
    tally.product(1, t, o);
    tally.product(centres, d, o);
    for _head in 0..heads {
        tally.product(centres, o / heads, d + edge + t);
        tally.product(neighbours, d + edge + t, 1);
        tally.product(1, neighbours, d + edge + t);
        tally.product(centres, d + edge + t, o / heads);
    }
    tally.product(centres, o, o);
    tally.product(centres, o + d, o);
    tally.product(centres, o, o);
    tally.product(ends, o, o);
    tally.product(pairs, o, 1);
    tally.0
}

#[test]
fn forward_is_as_many_products_as_loops_over_the_shapes_make() {
    for (memory, time, width, heads, edge) in [(4, 3, 6, 2, 0), (5, 2, 4, 4, 7), (3, 6, 9, 1, 2)] {
        let spec = TgnSpec { memory, time, width, heads, ..TgnSpec::default() };
        let sizes = StepSizes { silent: 0.0, ..sizes() };
        let counted = counted_forward(&spec, edge, 5, [6, 11], 2 + 3, 4);
        assert_eq!(step_cost(&spec, FeatureWidths { edge, node: 0 }, &sizes).forward, 2.0 * counted as f64);
    }
}

#[test]
fn a_wikipedia_batch_costs_about_a_billion_operations() {
    let sizes = StepSizes {
        nodes: 840.0,
        receivers: 840.0,
        mails: 840.0,
        hops: vec![hop(600, 6000)],
        pairs: 400.0,
        sources: 200.0,
        destinations: 400.0,
        ..StepSizes::default()
    };
    let cost = step_cost(&TgnSpec::default(), FeatureWidths { edge: 172, node: 0 }, &sizes);
    assert!((0.9e9..1.2e9).contains(&cost.flops()), "{cost:?}");
}

/// Specs that together cover every part.
fn specs() -> Vec<TgnSpec> {
    let base = TgnSpec { memory: 4, time: 3, width: 6, neighbours: 3, ..TgnSpec::default() };
    let with = |change: fn(&mut TgnSpec)| {
        let mut spec = base.clone();
        change(&mut spec);
        spec
    };
    vec![
        base.clone(),
        with(|spec| (spec.attention, spec.update_without_mail) = (AttentionForm::TransformerConv, true)),
        with(|spec| (spec.embedding, spec.layers) = (Embedding::Sum, 2)),
        with(|spec| (spec.embedding, spec.updater) = (Embedding::Time, Updater::Rnn)),
        with(|spec| (spec.embedding, spec.pair_features) = (Embedding::Identity, true)),
        with(|spec| (spec.message, spec.mail) = (Message::Mlp, Combine::Mean)),
        with(|spec| spec.layers = 2),
        with(|spec| {
            spec.static_memory = StaticSpec {
                how: StaticMemoryMode::Add,
                width: 7,
                train: true,
                nodes: Some(11),
                ..StaticSpec::default()
            }
        }),
        with(|spec| {
            (spec.layers, spec.static_memory) =
                (2, StaticSpec { how: StaticMemoryMode::Concat, width: 7, ..StaticSpec::default() })
        }),
    ]
}

#[test]
fn the_optimiser_is_counted_for_every_weight_the_model_has() {
    for spec in specs() {
        for features in [FeatureWidths::default(), FeatureWidths { edge: 5, node: 2 }] {
            let program = ModelSpec::from(spec.clone()).program(features).unwrap();
            let weights = SliceProgram::new(program.clone(), 1).parameters().values().len();
            assert_eq!(program.cost(&sizes()).optimiser, 14.0 * weights as f64, "{spec:?} {features:?}");
        }
    }
}

#[test]
fn the_mean_step_has_the_mean_cost_and_sizes_are_read_off_the_view() {
    let set = Dataset::from_spec("synthetic:events=60,users=6,items=5").unwrap();
    for spec in specs() {
        let needs = ModelSpec::from(spec.clone()).program(FeatureWidths::default()).unwrap().needs().clone();
        let mut history = History::new(set.nodes, needs.clone(), set.log.time()[0], Features::default());
        let mut steps = Vec::new();
        for first in (0..60).step_by(20) {
            let batch = set.log.batch(first..first + 20);
            let queries = Queries::of_batch(&batch, &[NodeId(7); 20], &(0..=20).collect::<Vec<_>>());
            let view = history.view(&queries, Some(&batch), Draw::new(0).of(Purpose::Sampling));
            steps.push(StepSizes::of(&queries, &view, &batch));
            let memory = vec![0.0; view.nodes.len() * needs.memory];
            history.observe(&batch, &Update { nodes: view.nodes, memory, ..Update::default() }).unwrap();
        }
        let [first, .., last] = &steps[..] else { panic!("three steps") };
        assert_eq!(
            (first.receivers, first.pairs, first.feature_rows > 0.0),
            (0.0, 40.0, !first.hops.is_empty() && needs.neighbours > 0)
        );
        assert!(last.receivers > 0.0 && last.mails >= last.receivers && last.nodes <= 11.0 && last.destinations >= 1.0);
        assert!(last.written <= last.nodes && (last.silent > 0.0) <= spec.update_without_mail);
        let flops = |sizes: &StepSizes| step_cost(&spec, FeatureWidths::default(), sizes).flops();
        let mean = steps.iter().map(flops).sum::<f64>() / 3.0;
        assert!((flops(&StepSizes::mean(&steps)) / mean - 1.0).abs() < 1e-12);
    }
}

#[test]
fn a_token_mixer_costs_its_products_over_tokens_and_over_columns() {
    let spec = GraphMixerSpec {
        width: 5,
        time: 2,
        channels: 3,
        layers: 2,
        neighbours: 4,
        window: 7,
        channel_expansion: 2.0,
        ..GraphMixerSpec::default()
    };
    let program = ModelSpec::from(spec).program(FeatureWidths { edge: 1, node: 6 }).unwrap();
    let sizes = StepSizes { window: 13.0, ..sizes() };
    // 6 centres of 4 tokens: [1 + 2 -> 3]; over 4 tokens of 3 columns [4 -> 2 -> 4], over 3 columns of 4 tokens [3 -> 6
    // -> 3]
    let mixer = 6 * 4 * 9 + 2 * (6 * 3 * 16 + 6 * 4 * 36);
    // 9 nodes [6 -> 5], 6 roots [3 + 5 -> 5], the decoder
    let rest = 9 * 30 + 6 * 40 + (2 + 3) * 25 + 4 * 5;
    assert_eq!(program.cost(&sizes).forward, 2.0 * f64::from(mixer + rest));
    // edge features, times and node features have no gradient
    let backward = 2 * (mixer - 6 * 4 * 9) + 6 * 4 * 9 + 2 * rest - 9 * 30;
    assert_eq!(program.cost(&sizes).backward, 2.0 * f64::from(backward));
    let without = program.cost(&StepSizes { window: 0.0, ..sizes });
    assert_eq!(program.cost(&StepSizes { window: 13.0, ..self::sizes() }).bytes - without.bytes, 13.0 * 20.0);
}

#[test]
fn walks_cost_the_products_of_the_rows_of_both_ends_and_the_maps_that_read_them() {
    let spec = TgnSpec { memory: 2, time: 1, width: 2, heads: 1, ..TgnSpec::default() };
    let walks = crate::WalkSpec { layers: 1, width: 5, ..crate::WalkSpec::default() };
    let with = TgnSpec { walks: Some(walks), ..spec.clone() };
    let [with, without] = [with, spec].map(|spec| step_cost(&spec, FeatureWidths { edge: 3, node: 0 }, &sizes()));
    // 4 pairs; 10 products of 2 rows of each end, 5 numbers long; maps of 10 columns to 2, and of 2 to 2
    assert_eq!(with.forward - without.forward, 2.0 * f64::from(4 * (10 * 5 + 10 * 2 + 2 * 2)));
    assert_eq!(with.backward - without.backward, 2.0 * f64::from(4 * (10 * 2 + 2 * 2 * 2)));
    // weights of the maps, and the rows of 2 sources and 3 destinations
    assert_eq!(with.bytes - without.bytes, f64::from(32 * (11 * 2 + 2 * 2) + 5 * 4 * 10));
}

#[test]
fn rows_of_pairs_cost_their_map_once_for_each_pair() {
    let spec = TgnSpec { memory: 2, time: 1, width: 2, heads: 1, ..TgnSpec::default() };
    let with = TgnSpec { common_neighbours: true, ..spec.clone() };
    let [without, with] = [spec, with].map(|spec| step_cost(&spec, FeatureWidths { edge: 3, node: 0 }, &sizes()));
    // 4 pairs x [2 + 1 -> 2], a multiplication and an addition, and back to the weights and the rows
    assert_eq!([with.forward - without.forward, with.backward - without.backward], [48.0, 96.0]);
}

/// A row head over features.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Rows {}

impl crate::program::ModelKind for Rows {
    const KIND: &'static str = "rows";
    const ABOUT: &'static str = "";
    const PAPER: &'static str = "";
    const TEMPLATE: &'static str = "";

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn build(&self, g: &mut crate::operation::Builder) -> crate::program::Outputs {
        let rows = g.rows_without_memory(8, &StaticSpec::default());
        let embedding = g.centres(rows);
        crate::program::Outputs { memory: None, embedding, decoder: g.row_head(8, 4, 3), mail_payload: None }
    }
}

#[test]
fn a_row_head_costs_its_maps_once_for_each_distinct_root() {
    let program = ModelSpec::from(Rows {}).program(FeatureWidths::default()).unwrap();
    let of_centres = program.head_cost(&sizes());
    // 6 centres x ([8 -> 4] + [4 -> 3])
    assert_eq!([of_centres.forward, of_centres.backward], [528.0, 1056.0]);
    let of_nodes = program.head_cost(&StepSizes { hops: Vec::new(), ..sizes() });
    assert_eq!(of_nodes.forward, 792.0);
}
