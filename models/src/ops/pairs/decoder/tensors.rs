//! The link decoder on tensors.

use tempograph_framework::{Pair, WalkRule};
use tempograph_kernels::tensor::Tensor;
use tempograph_kernels::{PairPlan, TemporalOps, gather_rows, pair_scores, rectify};

use crate::operation::{Map, TensorContext};
use crate::ops::pairs::decoder::facts::pair_columns;
use crate::ops::pairs::decoder::{LinkDecoder, PAIR_COLUMNS};

impl LinkDecoder {
    /// Logits of the pairs, `[P]`, from the embeddings of the roots' table, `[C, O]`, and the rows of pairs, `[P, W]`,
    /// if it reads these.
    pub(crate) fn on_tensors<B: TemporalOps>(
        &self,
        cx: &TensorContext<'_, B>,
        embeddings: Tensor<B, 2>,
        pairs: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 1> {
        let [as_src, as_dst] = self.columns().map(|columns| match self.split_by_role {
            true => embeddings.clone().narrow(1, columns.start, columns.len()),
            false => embeddings.clone(),
        });
        let end = |map: &Map, embeddings: &Tensor<B, 2>, root: fn(&Pair) -> u32| {
            let (distinct, index) = repeats(cx.queries.pairs().iter().map(|pair| cx.view.roots[root(pair) as usize]));
            (cx.linear(map, gather_rows(embeddings.clone(), distinct)), index)
        };
        let ((a, i), (b, j)) = match &self.ends {
            Some([src, dst]) => (end(src, &as_src, |pair| pair.src), end(dst, &as_dst, |pair| pair.dst)),
            None => {
                let nothing = || (Tensor::zeros([1, self.width()], cx.device()), vec![0; cx.queries.pairs().len()]);
                (nothing(), nothing())
            }
        };
        let facts = self.facts.as_ref().map(|[first, second]| {
            let pairs = cx.queries.pairs().len();
            let facts =
                self.pair_features.pairs.then(|| cx.from_rows(pair_columns(&cx.view.pairs), [pairs, PAIR_COLUMNS]));
            let walks = self.pair_features.walks.map(|rule| walks_on_tensors(rule, cx));
            let pair_features = Tensor::cat(facts.into_iter().chain(walks).collect(), 1);
            cx.linear(second, rectify(cx.linear(first, pair_features)))
        });
        let rows = self.pairs.zip(pairs).map(|((_, map), rows)| cx.linear(&map, rows));
        let of_pairs = match (facts, rows) {
            (Some(facts), Some(rows)) => Some(facts + rows),
            (facts, rows) => facts.or(rows),
        };
        let bias = match self.last.bias {
            Some(bias) => cx.vector(bias),
            None => Tensor::zeros([1], cx.device()),
        };
        pair_scores(PairPlan { i, j }, a, b, of_pairs, cx.matrix(self.last.weight), bias)
    }
}

/// Walk features of the queried pairs, `[P, (2 L + 2) (2 L + 3) / 2]`.
fn walks_on_tensors<B: TemporalOps>(rule: WalkRule, cx: &TensorContext<'_, B>) -> Tensor<B, 2> {
    let (width, rows) = (rule.width, 2 * (rule.layers + 1));
    let walks = cx.from_rows(cx.view.walks.clone(), [cx.queries.len(), rule.numbers()]);
    let end =
        |root: fn(&Pair) -> u32| gather_rows(walks.clone(), cx.queries.pairs().iter().map(root).collect::<Vec<u32>>());
    let both = Tensor::cat(vec![end(|pair| pair.src), end(|pair| pair.dst)], 1);
    let row = |i: usize| both.clone().narrow(1, i * width, width);
    let products = (0..rows).flat_map(|i| (i..rows).map(move |j| (i, j)));
    let products = products.map(|(i, j)| (row(i) * row(j)).sum_dim(1)).collect();
    rectify(Tensor::cat(products, 1)).log1p()
}

/// The distinct values in order of first appearance, and each value's index among them. Repeats are close to each
/// other.
fn repeats(values: impl Iterator<Item = u32>) -> (Vec<u32>, Vec<u32>) {
    let mut index_of = rustc_hash::FxHashMap::default();
    let mut distinct = Vec::new();
    let index = values
        .map(|value| {
            *index_of.entry(value).or_insert_with(|| {
                distinct.push(value);
                distinct.len() as u32 - 1
            })
        })
        .collect();
    (distinct, index)
}
