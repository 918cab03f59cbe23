//! Attention and linear maps on slices, forward and backward.
use super::{AttentionSizes, loss_weights, numbers};
use tempograph_kernels::cpu::{
    Activation, AttentionPlanRef, InputGradient, Linear, LinearWeights, NeighbourTable, PaddedRows, Precision,
    ProjectedAttention, ProjectionGradients, ProjectionWeights, TimeWeights, Version, head_stride, relu_backward,
};

/// `[rows, columns]` in rows `stride` apart. The padding is filled with numbers that must be ignored.
fn spread(numbers: &[f32], columns: usize, stride: usize, room: f32) -> Vec<f32> {
    numbers
        .chunks(columns)
        .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(room, stride - columns)))
        .collect()
}

fn close_up(rows: &[f32], columns: usize, stride: usize) -> Vec<f32> {
    rows.chunks(stride).flat_map(|row| &row[..columns]).copied().collect()
}

/// Output, then gradients of query, hidden, key, value, freq and phase. `workspace` was used for other shapes before.
pub fn attention_on_slices(
    sizes: AttentionSizes,
    per_head: usize,
    workspace: &mut ProjectedAttention,
) -> Vec<Vec<f32>> {
    let (plan, x, width) = (sizes.plan(), sizes.x(), per_head * sizes.heads);
    let [hidden, _, freq, phase] = sizes.inputs();
    let [key, value] = [31, 32].map(|seed| numbers(seed, width * x));
    let (row, stride) = (head_stride(width, sizes.heads), sizes.w + 3);
    let query = spread(&numbers(33, sizes.roots * width), width, row, 0.0);
    let hidden = spread(&hidden, sizes.w, stride, f32::NAN);
    let attending = AttentionPlanRef {
        neighbours: &plan.neighbours,
        features: plan.features.as_deref(),
        activation: plan.activation,
        dropout: plan.dropout,
    };
    let table =
        NeighbourTable { hidden: &hidden, width: sizes.w, stride, time: TimeWeights { freq: &freq, phase: &phase } };
    let weights = ProjectionWeights {
        key: &key,
        value: &value,
        heads: sizes.heads,
        version: Version::fresh(),
        precision: Precision::F32,
    };
    let mut out = vec![f32::NAN; sizes.roots * row];
    workspace.forward(&attending, weights, table, &query, &mut out);
    let grad = spread(&loss_weights(sizes.roots * width), width, row, 0.0);
    let (mut of_key, mut of_value, mut of_query) =
        (vec![f32::NAN; key.len()], vec![f32::NAN; value.len()], vec![f32::NAN; query.len()]);
    let (mut of_hidden, mut of_freq, mut of_phase) =
        (vec![f32::NAN; hidden.len()], vec![0.0; freq.len()], vec![0.0; phase.len()]);
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

/// Rows, inputs and outputs of a linear map.
pub type MapSizes = [usize; 3];

/// Its input, weight and bias.
pub fn map_inputs([rows, inputs, outputs]: MapSizes) -> [Vec<f32>; 3] {
    [(1, rows * inputs), (2, outputs * inputs), (3, outputs)].map(|(seed, count)| numbers(seed, count))
}

/// Output, then gradients of input, weight and bias. `map` was used for other shapes before.
pub fn map_on_slices(sizes: MapSizes, relu: bool, map: &mut Linear) -> Vec<Vec<f32>> {
    let ([rows, inputs, outputs], [input, weight, bias]) = (sizes, map_inputs(sizes));
    let (mut x, mut y, mut of_x) = (PaddedRows::default(), PaddedRows::default(), PaddedRows::default());
    x.zeros(rows, inputs);
    input.chunks(inputs).enumerate().for_each(|(row, numbers)| x.row_mut(row).copy_from_slice(numbers));
    let activation = if relu { Activation::Relu } else { Activation::None };
    let weights =
        LinearWeights { weight: &weight, bias: Some(&bias), version: Version::fresh(), precision: Precision::F32 };
    map.forward(&x, weights, activation, &mut y);
    let flat = |of: &PaddedRows| (0..rows).flat_map(|row| of.row(row)).copied().collect::<Vec<f32>>();
    let mut grad = y.clone();
    loss_weights(rows * outputs)
        .chunks(outputs)
        .enumerate()
        .for_each(|(row, numbers)| grad.row_mut(row).copy_from_slice(numbers));
    if relu {
        relu_backward(&mut grad.values, &y.values);
    }
    let (mut of_weight, mut of_bias) = (vec![f32::NAN; weight.len()], vec![f32::NAN; outputs]);
    map.backward(&x, &weight, &grad, [&mut of_weight, &mut of_bias], InputGradient::Replace(&mut of_x));
    vec![flat(&y), flat(&of_x), of_weight, of_bias]
}
