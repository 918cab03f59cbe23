//! Scores of pairs, against the slow twin and against finite differences in double precision.
mod common;

use common::*;
use tempograph_kernels::tensor::{CpuTape, Tensor};
use tempograph_kernels::{PairPlan, pair_scores, reference};

/// Rows of both tables, pairs, width, and whether something is added.
type Sizes = ([usize; 2], usize, usize, bool);

const CASES: [Sizes; 9] = [
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

fn plan([a, b]: [usize; 2], pairs: usize) -> PairPlan {
    PairPlan { i: (0..pairs).map(|p| (p * p % a) as u32).collect(), j: (0..pairs).map(|p| (p * 5 % b) as u32).collect() }
}

fn inputs(([a, b], pairs, width, added): Sizes) -> [Vec<f32>; 5] {
    [a * width, b * width, if added { pairs * width } else { 0 }, width, 1].map(|count| numbers(count as u64 + 3, count))
}

/// The scores, then the gradients of the inputs under a loss that weighs every score differently.
fn run(sizes: Sizes, fused: bool) -> Vec<Vec<f32>> {
    let (rows, pairs, width, added) = sizes;
    let [a, b, c, weight, bias] = inputs(sizes);
    let [a, b, weight] = [(a, rows[0]), (b, rows[1]), (weight, 1)].map(|(numbers, rows)| leaf::<CpuTape, 2>(&numbers, &[rows, width]));
    let (c, bias) = (leaf::<CpuTape, 2>(&c, &[if added { pairs } else { 0 }, width]), leaf::<CpuTape, 1>(&bias, &[1]));
    let scores = if fused {
        pair_scores(plan(rows, pairs), a.clone(), b.clone(), added.then(|| c.clone()), weight.clone(), bias.clone())
    } else {
        reference::pair_scores(&plan(rows, pairs), [a.clone(), b.clone(), c.clone(), weight.clone()], bias.clone())
    };
    let loss = Tensor::<CpuTape, 1>::from_floats(&loss_weights(pairs)[..], &Default::default());
    let gradients = (scores.clone() * loss).sum().backward();
    let mut results = vec![values(scores)];
    results.extend([a, b, c, weight].map(|leaf| leaf.grad(&gradients).map(values).unwrap_or_default()));
    results.push(values(bias.grad(&gradients).expect("tracked")));
    results
}

#[test]
fn pair_scores_and_their_gradients_are_those_of_the_reference() {
    // the tensor library takes no gradient through tables no pair reads
    for sizes in CASES.into_iter().filter(|sizes| sizes.1 > 0) {
        for (i, (ours, expected)) in run(sizes, true).iter().zip(run(sizes, false)).enumerate() {
            assert_close(ours, &expected, 2e-5, &format!("{i} of {sizes:?}"));
        }
    }
    assert_eq!(run(CASES[0], true)[0], Vec::<f32>::new());
}

#[test]
fn pair_scores_have_the_gradients_of_their_equation() {
    let score = |sizes: Sizes, inputs: &[Vec<f64>; 5]| -> Vec<f64> {
        let (rows, pairs, width, added) = sizes;
        let ([a, b, c, weight, bias], plan) = (inputs, plan(rows, pairs));
        let of_pair = |p: usize| {
            let sum = |o: usize| {
                let beside = if added { c[p * width + o] } else { 0.0 };
                a[plan.i[p] as usize * width + o] + b[plan.j[p] as usize * width + o] + beside
            };
            (0..width).map(|o| sum(o).max(0.0) * weight[o]).sum::<f64>() + bias[0]
        };
        (0..pairs).map(of_pair).collect()
    };
    for sizes in [([3, 2], 7, 9, false), ([3, 2], 7, 9, true)] {
        let mut arguments = inputs(sizes).map(|numbers| numbers.into_iter().map(f64::from).collect::<Vec<_>>());
        let loss = |output: Vec<f64>| output.iter().zip(loss_weights(7)).map(|(x, w)| x * f64::from(w)).sum::<f64>();
        let found = run(sizes, true);
        for input in 0..5 {
            let mut slopes = Vec::new();
            for at in 0..arguments[input].len() {
                let here = arguments[input][at];
                let mut side = |offset: f64| {
                    arguments[input][at] = here + offset;
                    loss(score(sizes, &arguments))
                };
                slopes.push(((side(1e-6) - side(-1e-6)) / 2e-6) as f32);
                arguments[input][at] = here;
            }
            assert_close(&found[input + 1], &slopes, 1e-5, &format!("gradient {input} of {sizes:?}"));
        }
    }
}
