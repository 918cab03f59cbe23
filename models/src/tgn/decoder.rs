//! The link decoder: how likely a source turns to a destination.

use burn::module::Module;
use burn::tensor::activation::relu;
use tempograph_framework::{PairFact, Queries, View};
use tempograph_kernels::tensor::{Backend, Tensor, TensorData};
use tempograph_kernels::{PairPlan, TemporalOps, gather_rows, pair_scores};

use crate::layers::{Init, Linear};

/// Positions of the newest occurrence in a recent list that are told apart.
const POSITIONS: usize = 12;
/// Columns of a pair's features.
pub(crate) const PAIR_COLUMNS: usize = 2 * (POSITIONS + 1) + 11;

/// `p(u, v) = final relu(src z_u + dst z_v [+ pair facts])`: TGN's merge layer with its first map split by ends, so that a source
/// asked about with many candidates is mapped once.
#[derive(Module, Debug)]
pub(crate) struct LinkDecoder<B: Backend> {
    lin_src: Linear<B>,
    lin_dst: Linear<B>,
    lin_pair: Option<[Linear<B>; 2]>,
    lin_final: Linear<B>,
}

impl<B: Backend> LinkDecoder<B> {
    /// For embeddings of width `input`, `width` wide inside; `facts` says whether it reads those about pairs.
    pub fn new(input: usize, width: usize, facts: bool, init: &mut Init<B>) -> LinkDecoder<B> {
        LinkDecoder {
            lin_src: Linear::new(init, input, width, true),
            lin_dst: Linear::new(init, input, width, true),
            lin_pair: facts
                .then(|| [Linear::new(init, PAIR_COLUMNS, width, true), Linear::new(init, width, width, false)]),
            lin_final: Linear::new(init, width, 1, true),
        }
    }
}

impl<B: TemporalOps> LinkDecoder<B> {
    /// Logits of the asked pairs, `[P]`, from the embeddings of the view's top table, `[C, O]`.
    pub fn forward(&self, embeddings: Tensor<B, 2>, queries: &Queries, view: &View) -> Tensor<B, 1> {
        let end = |lin: &Linear<B>, root: fn(&tempograph_framework::Pair) -> u32| {
            let (distinct, place) = repeats(queries.pairs().iter().map(|pair| view.roots[root(pair) as usize]));
            (lin.forward(gather_rows(embeddings.clone(), distinct)), place)
        };
        let ((a, i), (b, j)) = (end(&self.lin_src, |pair| pair.src), end(&self.lin_dst, |pair| pair.dst));
        let facts = self.lin_pair.as_ref().map(|[first, second]| {
            let facts = TensorData::new(pair_columns(&view.pairs), [view.pairs.len(), PAIR_COLUMNS]);
            second.forward(relu(first.forward(Tensor::from_data(facts, &embeddings.device()))))
        });
        let (weight, bias) = (self.lin_final.weight.val(), self.lin_final.bias.as_ref().map(|bias| bias.val()));
        let bias = bias.unwrap_or_else(|| Tensor::zeros([1], &weight.device()));
        pair_scores(PairPlan { i, j }, a, b, facts, weight, bias)
    }
}

/// The distinct values in order of first appearance, and each value's place among them. Repeats stand near each other.
pub(super) fn repeats(values: impl Iterator<Item = u32>) -> (Vec<u32>, Vec<u32>) {
    let mut place_of = rustc_hash::FxHashMap::default();
    let mut distinct = Vec::new();
    let place = values
        .map(|value| {
            *place_of.entry(value).or_insert_with(|| {
                distinct.push(value);
                distinct.len() as u32 - 1
            })
        })
        .collect();
    (distinct, place)
}

/// Facts as numbers of order one: positions one-hot, counts and times in logarithms. `[PAIR_COLUMNS]` each.
fn pair_columns(facts: &[PairFact]) -> Vec<f32> {
    let mut columns = vec![0.0; facts.len() * PAIR_COLUMNS];
    facts.iter().zip(columns.chunks_mut(PAIR_COLUMNS)).for_each(|(fact, row)| pair_row(fact, row));
    columns
}

/// The facts of one pair, written into zeros.
pub(crate) fn pair_row(fact: &PairFact, row: &mut [f32]) {
    let log = |x: f32| (1.0 + x.max(0.0)).ln() / 8.0;
    for (recency, slots) in [fact.in_src, fact.in_dst].iter().zip(row.chunks_mut(POSITIONS + 1)) {
        if let Some(first) = recency.first {
            slots[(first as usize).min(POSITIONS - 1)] = 1.0;
        }
        slots[POSITIONS] = recency.count as f32 / 4.0;
    }
    let share = |degree: u64| fact.count as f32 / (degree as f32).max(1.0);
    let rest = [
        f32::from(u8::from(fact.count > 0)),
        (1.0 + fact.count as f32).ln(),
        fact.since_last.map_or(2.0, log),
        share(fact.degrees[0]),
        share(fact.degrees[1]),
        fact.common as f32 / 4.0,
        log(fact.degrees[0] as f32),
        log(fact.degrees[1] as f32),
        fact.idle[0].map_or(2.0, log),
        fact.idle[1].map_or(2.0, log),
        f32::from(u8::from(fact.degrees[1] == 0)),
    ];
    row[2 * (POSITIONS + 1)..].copy_from_slice(&rest);
}
