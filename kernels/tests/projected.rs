//! Attention and linear maps on slices, against compositions of the tensor library's operations.
mod common;

use common::slices::{MapSizes, attention_on_slices, map_inputs, map_on_slices};
use common::*;
use tempograph_kernels::ScoreActivation;
use tempograph_kernels::cpu::{Linear, ProjectedAttention};
use tempograph_kernels::reference;
use tempograph_kernels::tensor::{CpuTape, Tensor};

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
    let out = seen
        .matmul(value.clone().reshape([heads, per_head, x]).swap_dims(1, 2))
        .swap_dims(0, 1)
        .reshape([roots, width]);
    let loss = Tensor::<CpuTape, 1>::from_floats(&loss_weights(roots * width)[..], &Default::default())
        .reshape([roots, width]);
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
        for (heads, per_head, e, k) in
            [(1, 1, None, 1), (2, 7, Some(9), 10), (3, 16, Some(1), 7), (2, 50, None, 9), (1, 9, Some(2), 64)]
        {
            for (activation, rate, lonely) in [
                (ScoreActivation::Scaled(0.3), None, false),
                (ScoreActivation::LeakyRelu(0.2), Some(0.4), false),
                (base.activation, None, true),
            ] {
                let sizes = AttentionSizes { roots, heads, e, k, activation, rate, lonely, ..base };
                let (ours, expected) =
                    (attention_on_slices(sizes, per_head, &mut workspace), by_reference(sizes, per_head));
                for (i, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
                    assert_close(ours, expected, 5e-5, &format!("{i} of {sizes:?}, {per_head} a head"));
                }
            }
        }
    }
    let nobody = attention_on_slices(AttentionSizes { roots: 0, ..base }, 4, &mut workspace);
    assert!(nobody[2..].iter().flatten().all(|&x| x == 0.0), "without roots every gradient is zero");
}

/// Output, then gradients of input, weight and bias.
fn map_by_reference(sizes: MapSizes, relu: bool) -> Vec<Vec<f32>> {
    let ([rows, inputs, outputs], [input, weight, bias]) = (sizes, map_inputs(sizes));
    let (x, w) = (leaf::<CpuTape, 2>(&input, &[rows, inputs]), leaf::<CpuTape, 2>(&weight, &[outputs, inputs]));
    let b = leaf::<CpuTape, 1>(&bias, &[outputs]);
    let out = x.clone().matmul(w.clone().transpose()) + b.clone().unsqueeze();
    let out = if relu { out.clamp_min(0.0) } else { out };
    let gradients = weighted(out.clone()).backward();
    vec![values(out), gradient(&x, &gradients), gradient(&w, &gradients), gradient(&b, &gradients)]
}

#[test]
fn linear_maps_and_their_gradients_are_those_of_the_reference_at_odd_shapes() {
    let mut map = Linear::default();
    for sizes in [[200, 100, 100], [1, 1, 1], [7, 9, 64], [64, 7, 1], [97, 33, 17], [9, 201, 50]] {
        for relu in [false, true] {
            let (ours, expected) = (map_on_slices(sizes, relu, &mut map), map_by_reference(sizes, relu));
            for (i, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
                assert_close(ours, expected, 2e-5, &format!("{i} of {sizes:?}, relu {relu}"));
            }
        }
    }
    let nothing = map_on_slices([0, 7, 9], true, &mut map);
    assert!(nothing[2..].iter().flatten().all(|&x| x == 0.0), "without rows every gradient is zero");
}
