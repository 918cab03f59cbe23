//! Scores of pairs, by the kernel or by its slow twin.
use super::{leaf, loss_weights, numbers, values};
use tempograph_kernels::tensor::{AutodiffBackend, Tensor};
use tempograph_kernels::{PairPlan, TemporalOps, pair_scores, reference};

/// Rows of both tables, pairs, width, and whether something is added.
pub type Sizes = ([usize; 2], usize, usize, bool);

pub const CASES: [Sizes; 9] = [
    ([1, 1], 0, 4, false),
    ([1, 1], 1, 1, true),
    ([3, 2], 7, 9, false),
    ([3, 2], 7, 9, true),
    ([9, 64], 64, 16, false),
    ([64, 9], 200, 33, true),
    ([5, 5], 65, 100, false),
    ([7, 1], 64, 64, true),
    ([2, 2], 9, 7, true),
];

pub fn plan([a, b]: [usize; 2], pairs: usize) -> PairPlan {
    PairPlan {
        i: (0..pairs).map(|p| (p * p % a) as u32).collect(),
        j: (0..pairs).map(|p| (p * 5 % b) as u32).collect(),
    }
}

pub fn inputs(([a, b], pairs, width, added): Sizes) -> [Vec<f32>; 5] {
    [a * width, b * width, if added { pairs * width } else { 0 }, width, 1]
        .map(|count| numbers(count as u64 + 3, count))
}

/// The scores, then the gradients of the inputs under a loss that weighs every score differently.
pub fn run<B: AutodiffBackend + TemporalOps>(sizes: Sizes, fused: bool) -> Vec<Vec<f32>> {
    let (tables, bias, scores) = score::<B>(sizes, fused);
    let loss = Tensor::<B, 1>::from_floats(&loss_weights(sizes.1)[..], &Default::default());
    let gradients = (scores.clone() * loss).sum().backward();
    let mut results = vec![values(scores)];
    results.extend(tables.map(|leaf| leaf.grad(&gradients).map(values).unwrap_or_default()));
    results.push(values(bias.grad(&gradients).expect("tracked")));
    results
}

/// Both tables, what is added, the weight; the bias; and the scores they give.
pub fn score<B: AutodiffBackend + TemporalOps>(
    sizes: Sizes,
    fused: bool,
) -> ([Tensor<B, 2>; 4], Tensor<B, 1>, Tensor<B, 1>) {
    let (rows, pairs, width, added) = sizes;
    let [a, b, c, weight, bias] = inputs(sizes);
    let [a, b, weight] =
        [(a, rows[0]), (b, rows[1]), (weight, 1)].map(|(numbers, rows)| leaf::<B, 2>(&numbers, &[rows, width]));
    let (c, bias) = (leaf::<B, 2>(&c, &[if added { pairs } else { 0 }, width]), leaf::<B, 1>(&bias, &[1]));
    let scores = if fused {
        pair_scores(plan(rows, pairs), a.clone(), b.clone(), added.then(|| c.clone()), weight.clone(), bias.clone())
    } else {
        reference::pair_scores(&plan(rows, pairs), [a.clone(), b.clone(), c.clone(), weight.clone()], bias.clone())
    };
    ([a, b, c, weight], bias, scores)
}
