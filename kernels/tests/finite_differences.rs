//! Outputs and gradients against the equations written out in double precision and differentiated numerically.
mod common;

use common::slices::{attention_on_slices, map_inputs, map_on_slices};
use common::*;
use tempograph_kernels::cpu::{Linear, ProjectedAttention};
use tempograph_kernels::tensor::CpuTape;
use tempograph_kernels::{AttentionPlan, Cell, MailPlan, Rows, ScoreActivation, gather_rows, time_encode};

const STEP: f64 = 1e-6;

fn loss(output: &[f64]) -> f64 {
    output.iter().zip(loss_weights(output.len())).map(|(x, w)| x * f64::from(w)).sum()
}

/// The function itself, then the derivative of its loss with respect to every number of every argument.
fn differentiate<const N: usize>(
    arguments: [Vec<f32>; N],
    function: impl Fn(&[Vec<f64>; N]) -> Vec<f64>,
) -> Vec<Vec<f32>> {
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
    let sizes = AttentionSizes {
        roots: 6,
        k: 4,
        n: 5,
        w: 3,
        e: Some(2),
        t: 4,
        heads: 2,
        activation,
        rate: None,
        lonely: false,
    };
    for sizes in
        [sizes, AttentionSizes { e: None, rate: Some(0.3), activation: ScoreActivation::LeakyRelu(0.2), ..sizes }]
    {
        let plan = sizes.plan();
        let expected = differentiate(sizes.inputs(), |inputs| attend(&plan, sizes, inputs));
        for (i, (ours, expected)) in fused_attention::<CpuTape>(sizes).iter().zip(&expected).enumerate() {
            assert_close(ours, expected, 1e-5, &format!("{i} of {sizes:?}"));
        }
    }
}

/// `[rows, columns]` times its right side, which is as many rows of `[columns]`, transposed or not.
fn times(left: &[f64], right: &[f64], columns: usize) -> Vec<f64> {
    left.chunks(columns).flat_map(|row| right.chunks(columns).map(|column| dot(row, column))).collect()
}

fn transposed(matrix: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns)).copied().collect()
}

/// Projected attention, `[roots, heads, p]`: keys and values of all neighbours as their equations have them.
fn attend_projected(plan: &AttentionPlan, sizes: AttentionSizes, per_head: usize, inputs: &[Vec<f64>; 6]) -> Vec<f64> {
    let [query, hidden, key, value, freq, phase] = inputs;
    let (AttentionSizes { roots, heads, .. }, x, width) = (sizes, sizes.x(), per_head * sizes.heads);
    let mut looked = Vec::new();
    for head in 0..heads {
        let key = transposed(&key[head * per_head * x..][..per_head * x], x);
        (0..roots).for_each(|root| {
            looked.extend(times(&query[root * width + head * per_head..][..per_head], &key, per_head))
        });
    }
    let seen = attend(plan, sizes, &[hidden.clone(), looked, freq.clone(), phase.clone()]);
    let mut out = vec![0.0; roots * width];
    for (i, seen) in seen.chunks(x).enumerate() {
        let (head, root) = (i / roots, i % roots);
        out[root * width + head * per_head..][..per_head].copy_from_slice(&times(
            seen,
            &value[head * per_head * x..][..per_head * x],
            x,
        ));
    }
    out
}

#[test]
fn projected_attention_has_the_gradients_of_its_equations() {
    let activation = ScoreActivation::Scaled(0.4);
    let sizes = AttentionSizes {
        roots: 6,
        k: 4,
        n: 5,
        w: 3,
        e: Some(2),
        t: 4,
        heads: 2,
        activation,
        rate: None,
        lonely: false,
    };
    for sizes in
        [sizes, AttentionSizes { e: None, rate: Some(0.3), activation: ScoreActivation::LeakyRelu(0.2), ..sizes }]
    {
        let (plan, per_head) = (sizes.plan(), 3);
        let (width, [hidden, _, freq, phase]) = (per_head * sizes.heads, sizes.inputs());
        let [key, value] = [31, 32].map(|seed| numbers(seed, width * sizes.x()));
        let inputs = [numbers(33, sizes.roots * width), hidden, key, value, freq, phase];
        let expected = differentiate(inputs, |inputs| attend_projected(&plan, sizes, per_head, inputs));
        let ours = attention_on_slices(sizes, per_head, &mut ProjectedAttention::default());
        for (i, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
            assert_close(ours, expected, 2e-5, &format!("{i} of {sizes:?}"));
        }
    }
}

#[test]
fn linear_maps_have_the_gradients_of_their_equation() {
    for (sizes, relu) in [([7, 9, 5], false), ([9, 3, 7], true)] {
        let equation = |[x, weight, bias]: &[Vec<f64>; 3]| -> Vec<f64> {
            let sums = times(x, weight, sizes[1]).into_iter().zip(bias.iter().cycle()).map(|(sum, bias)| sum + bias);
            sums.map(|sum| if relu { sum.max(0.0) } else { sum }).collect()
        };
        let expected = differentiate(map_inputs(sizes), equation);
        for (i, (ours, expected)) in
            map_on_slices(sizes, relu, &mut Linear::default()).iter().zip(&expected).enumerate()
        {
            assert_close(ours, expected, 1e-5, &format!("{i} of {sizes:?}"));
        }
    }
}

#[test]
fn time_encoding_has_the_gradients_of_its_equation() {
    let (dt, width) = (numbers(1, 9).iter().map(|x| 3.0 + 3.0 * x).collect::<Vec<f32>>(), 7);
    let inputs = [2, 3].map(|seed| numbers(seed, width));
    let equation = |[freq, phase]: &[Vec<f64>; 2]| dt.iter().flat_map(|&dt| encode(dt, freq, phase)).collect();
    let expected = differentiate(inputs.clone(), equation);
    let [freq, phase] = inputs.map(|numbers| leaf::<CpuTape, 1>(&numbers, &[width]));
    let encoded = time_encode(&dt, freq.clone(), phase.clone());
    let gradients = weighted(encoded.clone()).backward();
    let ours = [values(encoded), gradient(&freq, &gradients), gradient(&phase, &gradients)];
    for (i, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        assert_close(ours, expected, 1e-5, &i.to_string());
    }
}

#[test]
fn gathered_rows_have_the_gradients_of_their_equation() {
    let (rows, width) = ([3u32, 0, 3, 3, 1], 4);
    let equation = |[hidden]: &[Vec<f64>; 1]| {
        rows.iter().flat_map(|&row| hidden[row as usize * width..][..width].to_vec()).collect()
    };
    let expected = differentiate([numbers(1, 5 * width)], equation);
    let hidden = leaf::<CpuTape, 2>(&numbers(1, 5 * width), &[5, width]);
    let gathered = gather_rows(hidden.clone(), rows.to_vec());
    let gradients = weighted(gathered.clone()).backward();
    for (i, (ours, expected)) in [values(gathered), gradient(&hidden, &gradients)].iter().zip(&expected).enumerate() {
        assert_close(ours, expected, 1e-6, &i.to_string());
    }
}
