//! Outputs and gradients against the equations written out in double precision and differentiated numerically.
mod common;

use common::*;
use tempograph_kernels::tensor::CpuTape;
use tempograph_kernels::{AttentionPlan, Cell, MailPlan, Rows, ScoreActivation};

const STEP: f64 = 1e-6;

fn loss(output: &[f64]) -> f64 {
    output.iter().zip(loss_weights(output.len())).map(|(x, w)| x * f64::from(w)).sum()
}

/// The function itself, then its loss differentiated in every number of every argument.
fn differentiate<const N: usize>(arguments: [Vec<f32>; N], function: impl Fn(&[Vec<f64>; N]) -> Vec<f64>) -> Vec<Vec<f32>> {
    let mut arguments = arguments.map(|argument| argument.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
    let mut results = vec![function(&arguments).iter().map(|&x| x as f32).collect()];
    for i in 0..N {
        let mut gradient = Vec::new();
        for j in 0..arguments[i].len() {
            let here = arguments[i][j];
            let mut side = |offset: f64| {
                arguments[i][j] = here + offset;
                loss(&function(&arguments))
            };
            let slope = (side(STEP) - side(-STEP)) / (2.0 * STEP);
            arguments[i][j] = here;
            gradient.push(slope as f32);
        }
        results.push(gradient);
    }
    results
}

fn wide(row: &[f32]) -> impl Iterator<Item = f64> {
    row.iter().map(|&x| f64::from(x))
}

fn feature(features: &Option<std::sync::Arc<dyn Rows>>, event: u64) -> Vec<f64> {
    features.as_ref().map_or_else(Vec::new, |features| wide(features.row(event)).collect())
}

fn encode<'a>(dt: f32, freq: &'a [f64], phase: &'a [f64]) -> impl Iterator<Item = f64> + use<'a> {
    freq.iter().zip(phase).map(move |(freq, phase)| (f64::from(dt) * freq + phase).cos())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn update(plan: &MailPlan, cell: Cell, weights: &[Vec<f64>; 6]) -> Vec<f64> {
    let [w_ih, w_hh, b_ih, b_hh, freq, phase] = weights;
    let g = b_ih.len();
    let d = g / cell.gates();
    let x = w_ih.len() / g;
    let mut out: Vec<f64> = wide(&plan.memory).collect();
    for (mail, &row) in plan.rows.iter().enumerate() {
        let own: Vec<f64> = wide(&plan.memory[row as usize * d..][..d]).collect();
        let mut message = own.clone();
        if plan.empty[mail] {
            message = vec![0.0; x];
        } else {
            message.extend(wide(&plan.other[mail * d..][..d]));
            message.extend(feature(&plan.features, plan.event[mail]));
            message.extend(encode(plan.dt[mail], freq, phase));
        }
        let input = |gate: usize| dot(&w_ih[gate * x..][..x], &message) + b_ih[gate];
        let recurrent = |gate: usize| dot(&w_hh[gate * d..][..d], &own) + b_hh[gate];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for i in 0..d {
            out[row as usize * d + i] = match cell {
                Cell::Rnn => (input(i) + recurrent(i)).tanh(),
                Cell::Gru => {
                    let r = sigmoid(input(i) + recurrent(i));
                    let z = sigmoid(input(d + i) + recurrent(d + i));
                    let n = (input(2 * d + i) + r * recurrent(2 * d + i)).tanh();
                    (1.0 - z) * n + z * own[i]
                }
            };
        }
    }
    out
}

#[test]
fn memory_update_has_the_gradients_of_its_equations() {
    let sizes = MailSizes { unique: 9, d: 3, e: Some(2), t: 4, silent: 4, empty: 3 };
    for sizes in [sizes, MailSizes { e: None, empty: 99, ..sizes }] {
        for cell in [Cell::Gru, Cell::Rnn] {
            let expected = differentiate(sizes.weights(cell), |weights| update(&sizes.plan(), cell, weights));
            for (i, (ours, expected)) in fused_update::<CpuTape>(sizes, cell).iter().zip(&expected).enumerate() {
                assert_close(ours, expected, 1e-5, &format!("{i} of {cell:?} {sizes:?}"));
            }
        }
    }
}

fn attend(plan: &AttentionPlan, sizes: AttentionSizes, inputs: &[Vec<f64>; 4]) -> Vec<f64> {
    let [hidden, query, freq, phase] = inputs;
    let (AttentionSizes { roots, k, w, heads, .. }, x) = (sizes, sizes.x());
    let mut out = vec![0.0; heads * roots * x];
    for (i, out) in out.chunks_mut(x).enumerate() {
        let (head, root) = (i / roots, i % roots);
        let neighbour = |slot: usize| {
            let at = root * k + slot;
            let mut row = hidden[plan.neighbours.row[at] as usize * w..][..w].to_vec();
            row.extend(feature(&plan.features, plan.neighbours.event[at]));
            row.extend(encode(plan.neighbours.dt[at], freq, phase));
            row.push(1.0);
            row
        };
        let rows: Vec<Vec<f64>> = (0..plan.neighbours.count[root] as usize).map(neighbour).collect();
        let score = |row: &Vec<f64>| match (dot(&query[i * x..][..x], row), plan.activation) {
            (score, ScoreActivation::Scaled(scale)) => score * f64::from(scale),
            (score, ScoreActivation::LeakyRelu(slope)) => score.max(score * f64::from(slope)),
        };
        let exps: Vec<f64> = rows.iter().map(|row| score(row).exp()).collect();
        for (slot, row) in rows.iter().enumerate() {
            let counter = ((root * heads + head) * k + slot) as u64;
            let kept = plan.dropout.map_or(1.0, |dropout| f64::from(dropout.factor(counter)));
            let weight = exps[slot] / exps.iter().sum::<f64>() * kept;
            out.iter_mut().zip(row).for_each(|(out, x)| *out += weight * x);
        }
    }
    out
}

#[test]
fn attention_has_the_gradients_of_its_equations() {
    let activation = ScoreActivation::Scaled(0.4);
    let sizes = AttentionSizes { roots: 6, k: 4, n: 5, w: 3, e: Some(2), t: 4, heads: 2, activation, rate: None, lonely: false };
    for sizes in [sizes, AttentionSizes { e: None, rate: Some(0.3), activation: ScoreActivation::LeakyRelu(0.2), ..sizes }] {
        let plan = sizes.plan();
        let expected = differentiate(sizes.inputs(), |inputs| attend(&plan, sizes, inputs));
        for (i, (ours, expected)) in fused_attention::<CpuTape>(sizes).iter().zip(&expected).enumerate() {
            assert_close(ours, expected, 1e-5, &format!("{i} of {sizes:?}"));
        }
    }
}
