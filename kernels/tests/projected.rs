//! Attention and linear maps on slices, against compositions of the tensor library's operations.
mod common;

use common::*;
use tempograph_kernels::ScoreActivation;
use tempograph_kernels::cpu::Version;
use tempograph_kernels::cpu::{
    Activation, Attending, InputGradient, Linear, LinearWeights, PaddedRows, Precision, ProjectedAttention, ProjectionGradients,
    ProjectionWeights, Table, TimeWeights, head_stride, mask,
};
use tempograph_kernels::reference;
use tempograph_kernels::tensor::{CpuTape, Tensor};

/// `[rows, columns]` spread to rows `stride` apart, the room between filled with what must not matter.
fn spread(numbers: &[f32], columns: usize, stride: usize, room: f32) -> Vec<f32> {
    numbers.chunks(columns).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(room, stride - columns))).collect()
}

fn close_up(rows: &[f32], columns: usize, stride: usize) -> Vec<f32> {
    rows.chunks(stride).flat_map(|row| &row[..columns]).copied().collect()
}

/// Output, then gradients of query, hidden, key, value, freq and phase. `workspace` has been used for something else before.
fn on_slices(sizes: AttentionSizes, per_head: usize, workspace: &mut ProjectedAttention) -> Vec<Vec<f32>> {
    let (plan, x, width) = (sizes.plan(), sizes.x(), per_head * sizes.heads);
    let [hidden, _, freq, phase] = sizes.inputs();
    let [key, value] = [31, 32].map(|seed| numbers(seed, width * x));
    let (row, stride) = (head_stride(width, sizes.heads), sizes.w + 3);
    let query = spread(&numbers(33, sizes.roots * width), width, row, 0.0);
    let hidden = spread(&hidden, sizes.w, stride, f32::NAN);
    let attending =
        Attending { neighbours: &plan.neighbours, features: plan.features.as_deref(), activation: plan.activation, dropout: plan.dropout };
    let table = Table { hidden: &hidden, width: sizes.w, stride, time: TimeWeights { freq: &freq, phase: &phase } };
    let weights = ProjectionWeights { key: &key, value: &value, heads: sizes.heads, version: Version::fresh(), precision: Precision::F32 };
    let mut out = vec![f32::NAN; sizes.roots * row];
    workspace.forward(&attending, weights, table, &query, &mut out);
    let grad = spread(&loss_weights(sizes.roots * width), width, row, 0.0);
    let (mut of_key, mut of_value, mut of_query) = (vec![f32::NAN; key.len()], vec![f32::NAN; value.len()], vec![f32::NAN; query.len()]);
    let (mut of_hidden, mut of_freq, mut of_phase) = (vec![f32::NAN; hidden.len()], vec![0.0; freq.len()], vec![0.0; phase.len()]);
    let gradients = ProjectionGradients {
        key: &mut of_key,
        value: &mut of_value,
        query: &mut of_query,
        hidden: &mut of_hidden,
        time: [&mut of_freq, &mut of_phase],
    };
    workspace.backward(&attending, table, &query, &grad, gradients);
    let [out, of_query] = [out, of_query].map(|rows| close_up(&rows, width, row));
    vec![out, of_query, close_up(&of_hidden, sizes.w, stride), of_key, of_value, of_freq, of_phase]
}

fn by_reference(sizes: AttentionSizes, per_head: usize) -> Vec<Vec<f32>> {
    let (heads, roots, x, width) = (sizes.heads, sizes.roots, sizes.x(), per_head * sizes.heads);
    let inputs = sizes.inputs();
    let hidden = leaf::<CpuTape, 2>(&inputs[0], &[sizes.n, sizes.w]);
    let [freq, phase] = [2, 3].map(|i| leaf::<CpuTape, 1>(&inputs[i], &[sizes.t]));
    let [key, value] = [31, 32].map(|seed| leaf::<CpuTape, 2>(&numbers(seed, width * x), &[width, x]));
    let query = leaf::<CpuTape, 2>(&numbers(33, roots * width), &[roots, width]);
    let of_heads = |rows: Tensor<CpuTape, 2>| rows.reshape([roots, heads, per_head]).swap_dims(0, 1);
    let looked = of_heads(query.clone()).matmul(key.clone().reshape([heads, per_head, x]));
    let seen = reference::temporal_attention(&sizes.plan(), hidden.clone(), looked, freq.clone(), phase.clone());
    let out = seen.matmul(value.clone().reshape([heads, per_head, x]).swap_dims(1, 2)).swap_dims(0, 1).reshape([roots, width]);
    let loss = Tensor::<CpuTape, 1>::from_floats(&loss_weights(roots * width)[..], &Default::default()).reshape([roots, width]);
    let gradients = (out.clone() * loss).sum().backward();
    let mut results = vec![values(out)];
    results.extend([query, hidden, key, value].map(|leaf| leaf.grad(&gradients).map(values).expect("tracked")));
    results.extend([freq, phase].map(|leaf| leaf.grad(&gradients).map(values).expect("tracked")));
    results
}

#[test]
fn projected_attention_and_its_gradients_are_those_of_the_reference_at_odd_shapes() {
    let base = AttentionSizes {
        roots: 9,
        k: 7,
        n: 12,
        w: 5,
        e: Some(3),
        t: 4,
        heads: 2,
        activation: ScoreActivation::Scaled(0.3),
        rate: None,
        lonely: false,
    };
    let mut workspace = ProjectedAttention::default();
    for roots in [64, 1, 7, 9, 130] {
        for (heads, per_head, e, k) in [(1, 1, None, 1), (2, 7, Some(9), 10), (3, 16, Some(1), 7), (2, 50, None, 10)] {
            for (activation, rate, lonely) in [
                (ScoreActivation::Scaled(0.3), None, false),
                (ScoreActivation::LeakyRelu(0.2), Some(0.4), false),
                (base.activation, None, true),
            ] {
                let sizes = AttentionSizes { roots, heads, e, k, activation, rate, lonely, ..base };
                let (ours, expected) = (on_slices(sizes, per_head, &mut workspace), by_reference(sizes, per_head));
                for (i, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
                    assert_close(ours, expected, 5e-5, &format!("{i} of {sizes:?}, {per_head} a head"));
                }
            }
        }
    }
    let nobody = on_slices(AttentionSizes { roots: 0, ..base }, 4, &mut workspace);
    assert!(nobody[2..].iter().flatten().all(|&x| x == 0.0), "without roots every gradient is zero");
}

#[test]
fn linear_maps_and_their_gradients_are_those_of_the_reference_at_odd_shapes() {
    let (mut linear, mut x, mut y, mut of_x) = (Linear::default(), PaddedRows::default(), PaddedRows::default(), PaddedRows::default());
    for (rows, inputs, outputs) in [(200, 100, 100), (1, 1, 1), (7, 9, 64), (64, 7, 1), (97, 33, 17), (9, 201, 50)] {
        for relu in [false, true] {
            let [input, weight, bias] = [(1, rows * inputs), (2, outputs * inputs), (3, outputs)].map(|(seed, count)| numbers(seed, count));
            x.zeros(rows, inputs);
            input.chunks(inputs).enumerate().for_each(|(row, numbers)| x.row_mut(row).copy_from_slice(numbers));
            let activation = if relu { Activation::Relu } else { Activation::None };
            let weights = LinearWeights { weight: &weight, bias: Some(&bias), version: Version::fresh(), precision: Precision::F32 };
            linear.forward(&x, weights, activation, &mut y);
            let output: Vec<f32> = (0..rows).flat_map(|row| y.row(row)).copied().collect();
            let mut grad = y.clone();
            loss_weights(rows * outputs).chunks(outputs).enumerate().for_each(|(row, numbers)| grad.row_mut(row).copy_from_slice(numbers));
            if relu {
                mask(&mut grad.values, &y.values);
            }
            let (mut of_weight, mut of_bias) = (vec![f32::NAN; weight.len()], vec![f32::NAN; outputs]);
            linear.backward(&x, &weight, &grad, [&mut of_weight, &mut of_bias], InputGradient::Replace(&mut of_x));
            let of_input: Vec<f32> = (0..rows).flat_map(|row| of_x.row(row)).copied().collect();

            let (tx, tw) = (leaf::<CpuTape, 2>(&input, &[rows, inputs]), leaf::<CpuTape, 2>(&weight, &[outputs, inputs]));
            let tb = leaf::<CpuTape, 1>(&bias, &[outputs]);
            let out = tx.clone().matmul(tw.clone().transpose()) + tb.clone().unsqueeze();
            let out = if relu { out.clamp_min(0.0) } else { out };
            let loss = Tensor::<CpuTape, 1>::from_floats(&loss_weights(rows * outputs)[..], &Default::default()).reshape([rows, outputs]);
            let gradients = (out.clone() * loss).sum().backward();
            let what = format!("[{rows}, {inputs}] to {outputs}, relu {relu}");
            assert_close(&output, &values(out), 2e-5, &what);
            assert_close(&of_input, &values(tx.grad(&gradients).expect("tracked")), 2e-5, &what);
            assert_close(&of_weight, &values(tw.grad(&gradients).expect("tracked")), 2e-5, &what);
            assert_close(&of_bias, &values(tb.grad(&gradients).expect("tracked")), 2e-5, &what);
        }
    }
}
