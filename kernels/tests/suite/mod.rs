//! Every fused operation and its backward pass compute the same as its slow twin on the CPU.
//!
//! The program that includes this suite chooses the backend: its `Tape`. If there is no device for it, `absent` prints
//! the reason.
use crate::common::*;
use crate::{Plain, Tape, absent};
use tempograph_kernels::tensor::{AutodiffBackend, Cpu, CpuTape, Tensor};
use tempograph_kernels::{Cell, ScoreActivation, attention_weights, gather_rows, product, reference, time_encode};

const WEIGHTS: [&str; 7] = ["output", "w_ih", "w_hh", "b_ih", "b_hh", "freq", "phase"];
const INPUTS: [&str; 5] = ["output", "hidden", "query", "freq", "phase"];

fn mail_cases() -> Vec<MailSizes> {
    let mut cases = Vec::new();
    for unique in [0, 1, 7, 9, 64, 300] {
        for (e, silent, empty) in [(Some(5), 3, 4), (None, 2, 99), (Some(17), 7, 1), (None, 1, 2)] {
            cases.push(MailSizes { unique, d: 6, e, t: 7, silent, empty });
        }
    }
    cases.push(MailSizes { unique: 70, d: 33, e: Some(18), t: 1, silent: 9, empty: 5 });
    cases.push(MailSizes { unique: 20, d: 4, e: Some(3), t: 0, silent: 9, empty: 5 });
    cases
}

#[test]
fn memory_update_and_its_gradients_are_those_of_the_reference() {
    if absent() {
        return;
    }
    for sizes in mail_cases() {
        for cell in [Cell::Gru, Cell::Rnn] {
            let (ours, expected) = (fused_update::<Tape>(sizes, cell), reference_update(sizes, cell));
            for ((ours, expected), name) in ours.iter().zip(&expected).zip(WEIGHTS) {
                assert_close(ours, expected, 2e-5, &format!("{name} of {cell:?} {sizes:?}"));
            }
        }
    }
}

#[test]
fn nodes_without_mail_keep_their_memory() {
    if absent() {
        return;
    }
    let sizes = MailSizes { unique: 30, d: 5, e: Some(2), t: 3, silent: 4, empty: 3 };
    let (plan, output) = (sizes.plan(), &fused_update::<Tape>(sizes, Cell::Gru)[0]);
    for row in 0..sizes.unique {
        let at = row * sizes.d..(row + 1) * sizes.d;
        let listed = plan.rows.contains(&(row as u32));
        assert_eq!(output[at.clone()] == plan.memory[at], !listed, "row {row}");
    }
}

fn attention_cases() -> Vec<AttentionSizes> {
    let mut cases = Vec::new();
    let base = AttentionSizes {
        roots: 9,
        k: 10,
        n: 5,
        w: 6,
        e: Some(7),
        t: 8,
        heads: 2,
        activation: ScoreActivation::Scaled(0.3),
        rate: None,
        lonely: false,
    };
    for roots in [0, 1, 7, 9, 64] {
        for k in [1, 10] {
            for (heads, e) in [(1, None), (2, Some(7)), (3, Some(16))] {
                for (activation, rate) in
                    [(ScoreActivation::Scaled(0.3), None), (ScoreActivation::LeakyRelu(0.2), Some(0.4))]
                {
                    cases.push(AttentionSizes { roots, k, heads, e, activation, rate, ..base });
                }
            }
        }
    }
    cases.extend([7, 9, 64].map(|k| AttentionSizes { k, ..base }));
    cases.push(AttentionSizes { lonely: true, ..base });
    cases.push(AttentionSizes {
        lonely: true,
        k: 1,
        activation: ScoreActivation::LeakyRelu(0.2),
        rate: Some(0.4),
        ..base
    });
    cases.push(AttentionSizes { w: 31, t: 33, n: 100, ..base });
    cases.push(AttentionSizes { t: 0, n: 1, ..base });
    cases
}

#[test]
fn attention_and_its_gradients_are_those_of_the_reference() {
    if absent() {
        return;
    }
    for sizes in attention_cases() {
        let (ours, expected) = (fused_attention::<Tape>(sizes), reference_attention(sizes));
        for ((ours, expected), name) in ours.iter().zip(&expected).zip(INPUTS) {
            assert_close(ours, expected, 2e-5, &format!("{name} of {sizes:?}"));
        }
    }
}

#[test]
fn a_root_without_neighbours_attends_to_nothing() {
    if absent() {
        return;
    }
    for sizes in attention_cases() {
        let (plan, output) = (sizes.plan(), &fused_attention::<Tape>(sizes)[0]);
        for (i, row) in output.chunks(sizes.x()).enumerate() {
            let alone = plan.neighbours.count[i % sizes.roots] == 0;
            assert!(!alone || row.iter().all(|&x| x == 0.0), "{sizes:?} row {i}");
        }
    }
}

#[test]
fn attention_weights_are_those_of_the_reference_and_add_up_to_one() {
    if absent() {
        return;
    }
    for sizes in attention_cases() {
        let (inputs, plan) = (sizes.inputs(), sizes.plan());
        let [hidden, query, freq, phase] = inputs;
        let shapes = sizes.shapes();
        let weights = values(attention_weights(
            &plan,
            constant::<Plain, 2>(&hidden, &shapes[0]),
            constant(&query, &shapes[1]),
            constant(&freq, &shapes[2]),
            constant(&phase, &shapes[3]),
        ));
        let expected = values(reference::attention_weights(
            &plan,
            constant::<Cpu, 2>(&hidden, &shapes[0]),
            constant(&query, &shapes[1]),
            constant(&freq, &shapes[2]),
            constant(&phase, &shapes[3]),
        ));
        assert_close(&weights, &expected, 1e-5, &format!("{sizes:?}"));
        for (i, weights) in weights.chunks(sizes.k).enumerate() {
            let count = plan.neighbours.count[i % sizes.roots] as usize;
            let expected = if count == 0 { 0.0 } else { 1.0 };
            assert!((weights.iter().sum::<f32>() - expected).abs() < 1e-5, "{sizes:?} row {i}");
            assert!(weights[count..].iter().all(|&weight| weight == 0.0), "{sizes:?} row {i}");
        }
    }
}

/// An encoding and its gradients, the loss being the encoding times fixed numbers.
fn encoding<B: AutodiffBackend>(
    rows: usize,
    width: usize,
    encode: impl Fn(&[f32], Tensor<B, 1>, Tensor<B, 1>) -> Tensor<B, 2>,
) -> [Vec<f32>; 3] {
    let dt: Vec<f32> = numbers(1, rows).iter().map(|x| 5.0 + 5.0 * x).collect();
    let [freq, phase] = [2, 3].map(|seed| leaf::<B, 1>(&numbers(seed, width), &[width]));
    let encoded = encode(&dt, freq.clone(), phase.clone());
    let gradients = weighted(encoded.clone()).backward();
    let [freq, phase] = [freq, phase].map(|leaf| gradient(&leaf, &gradients));
    [values(encoded), freq, phase]
}

#[test]
fn time_encoding_and_its_gradients_are_those_of_the_reference() {
    if absent() {
        return;
    }
    for (rows, width) in [(0, 4), (1, 1), (7, 9), (9, 64), (64, 7), (65, 19), (200, 100), (700, 3)] {
        let expected = encoding::<CpuTape>(rows, width, reference::time_encode);
        for (ours, expected) in encoding::<Tape>(rows, width, time_encode).iter().zip(expected) {
            assert_close(ours, &expected, 1e-5, &format!("[{rows}, {width}]"));
        }
    }
}

#[test]
fn time_encoding_is_exact_for_long_times() {
    if absent() {
        return;
    }
    for dt in [0.0, 1.5, 86_400.0, 2.678_4e6, 9.9e7f32] {
        let (freq, phase) = (numbers(1, 4000), numbers(2, 4000));
        let [freq_leaf, phase_leaf] = [&freq, &phase].map(|numbers| leaf::<Tape, 1>(numbers, &[4000]));
        let encoded = time_encode(&[dt], freq_leaf, phase_leaf.clone());
        let slopes = gradient(&phase_leaf, &weighted(encoded.clone()).backward());
        let (mut worst, loss) = ([0.0f64; 2], loss_weights(4000));
        for (i, encoded) in values(encoded).into_iter().enumerate() {
            // product and sum are rounded to f32, as PyTorch does
            let argument = f64::from(dt * freq[i] + phase[i]);
            let slope = -argument.sin() * f64::from(loss[i]);
            worst[0] = worst[0].max((f64::from(encoded) - argument.cos()).abs());
            worst[1] = worst[1].max((f64::from(slopes[i]) - slope).abs());
        }
        println!("after {dt}: cosines within {:.1e}, sines within {:.1e}", worst[0], worst[1]);
        assert!(worst.iter().all(|&error| error < 2e-7), "after {dt}: {worst:?}");
    }
}

/// Gathered rows and the gradient of their table, the loss being the rows times fixed numbers.
fn gathered<B: AutodiffBackend>(gather: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>) -> [Vec<f32>; 2] {
    let (n, width) = (6, 5);
    let hidden = leaf::<B, 2>(&numbers(1, n * width), &[n, width]);
    let gathered = gather(hidden.clone());
    let gradients = weighted(gathered.clone()).backward();
    [values(gathered), gradient(&hidden, &gradients)]
}

#[test]
fn gathered_rows_hand_their_gradients_back() {
    if absent() {
        return;
    }
    // also so many that they are a large transfer to a GPU and do not fit one axis of a launch
    for count in [0, 1, 7, 9, 64, 500, 900_000u64] {
        let rows: Vec<u32> = (0..count).map(|i| (i * i % 5) as u32).collect();
        let expected = gathered::<CpuTape>(|hidden| reference::gather_rows(hidden, &rows));
        for (ours, expected) in gathered::<Tape>(|hidden| gather_rows(hidden, rows.clone())).iter().zip(expected) {
            assert_close(ours, &expected, 1e-5 + 1e-9 * count as f32, &format!("{count} rows"));
        }
    }
}

#[test]
fn pair_scores_and_their_gradients_are_those_of_the_reference() {
    if absent() {
        return;
    }
    // the tensor library takes no gradient of an empty tensor on a device
    for sizes in pairs::CASES.into_iter().filter(|sizes| sizes.1 > 0) {
        for (i, (ours, expected)) in
            pairs::run::<Tape>(sizes, true).iter().zip(pairs::run::<CpuTape>(sizes, false)).enumerate()
        {
            assert_close(ours, &expected, 2e-5, &format!("{i} of {sizes:?}"));
        }
    }
    assert_eq!(values(pairs::score::<Tape>(pairs::CASES[0], true).2), Vec::<f32>::new());
}

/// A product of blocks of matrices and its gradients, the loss being the product times fixed numbers.
fn multiplied<B: AutodiffBackend>(
    [blocks, n, m, k]: [usize; 4],
    product: impl Fn(Tensor<B, 3>, Tensor<B, 3>) -> Tensor<B, 3>,
) -> [Vec<f32>; 3] {
    let [left, right] = [(1, n, m), (2, m, k)]
        .map(|(seed, rows, columns)| leaf::<B, 3>(&numbers(seed, blocks * rows * columns), &[blocks, rows, columns]));
    let result = product(left.clone(), right.clone());
    let gradients = weighted(result.clone()).backward();
    [values(result), gradient(&left, &gradients), gradient(&right, &gradients)]
}

#[test]
fn products_are_those_of_the_host_in_full_precision() {
    if absent() {
        return;
    }
    for sizes in [[1, 1, 1, 1], [1, 7, 9, 64], [3, 33, 100, 5], [2, 64, 1, 7]] {
        let expected = multiplied::<CpuTape>(sizes, |left, right| left.matmul(right));
        for (ours, expected) in multiplied::<Tape>(sizes, product).iter().zip(expected) {
            assert_close(ours, &expected, 1e-5, &format!("{sizes:?}"));
        }
    }
    let empty =
        product(Tensor::<Plain, 2>::zeros([0, 3], &Default::default()), Tensor::zeros([3, 2], &Default::default()));
    assert_eq!(empty.dims(), [0, 2]);
}
