//! Scores of pairs against finite differences in double precision.
mod common;

use common::pairs::{Sizes, inputs, plan, run};
use common::*;
use tempograph_kernels::tensor::CpuTape;

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
        let found = run::<CpuTape>(sizes, true);
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
