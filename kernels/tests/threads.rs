//! Results do not depend on the number of threads, to the last bit.
mod common;

use common::slices::{attention_on_slices, map_on_slices};
use common::*;
use tempograph_kernels::cpu::{Linear, ProjectedAttention, adam_step};
use tempograph_kernels::tensor::CpuTape;
use tempograph_kernels::{AdamStep, Cell, ScoreActivation, gather_rows, time_encode};

fn bits_with(threads: usize, work: impl Fn() -> Vec<Vec<f32>> + Sync) -> Vec<Vec<u32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| work().iter().map(|numbers| numbers.iter().map(|x| x.to_bits()).collect()).collect())
}

#[track_caller]
fn assert_same_bits(work: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let one = bits_with(1, &work);
    assert!([2, 3, 7].iter().all(|&threads| bits_with(threads, &work) == one));
}

#[test]
fn memory_update_has_the_same_bits_for_any_number_of_threads() {
    let sizes = MailSizes { unique: 700, d: 20, e: Some(9), t: 11, silent: 50, empty: 6 };
    assert_same_bits(|| fused_update::<CpuTape>(sizes, Cell::Gru));
    assert_same_bits(|| fused_update::<CpuTape>(sizes, Cell::Rnn));
}

#[test]
fn attention_has_the_same_bits_for_any_number_of_threads() {
    let (activation, rate) = (ScoreActivation::LeakyRelu(0.2), Some(0.1));
    let sizes = AttentionSizes {
        roots: 150,
        k: 10,
        n: 90,
        w: 20,
        e: Some(9),
        t: 11,
        heads: 2,
        activation,
        rate,
        lonely: false,
    };
    assert_same_bits(|| fused_attention::<CpuTape>(sizes));
    assert_same_bits(|| attention_on_slices(sizes, 13, &mut ProjectedAttention::default()));
}

#[test]
fn linear_maps_have_the_same_bits_for_any_number_of_threads() {
    assert_same_bits(|| map_on_slices([500, 70, 90], true, &mut Linear::default()));
}

#[test]
fn pair_scores_have_the_same_bits_for_any_number_of_threads() {
    assert_same_bits(|| pairs::run::<CpuTape>(([90, 70], 700, 33, true), true));
}

#[test]
fn time_encoding_has_the_same_bits_for_any_number_of_threads() {
    let dt: Vec<f32> = numbers(1, 700).iter().map(|x| 5.0 + 5.0 * x).collect();
    assert_same_bits(|| {
        let [freq, phase] = [2, 3].map(|seed| leaf::<CpuTape, 1>(&numbers(seed, 33), &[33]));
        let encoded = time_encode(&dt, freq.clone(), phase.clone());
        let gradients = weighted(encoded.clone()).backward();
        vec![values(encoded), gradient(&freq, &gradients), gradient(&phase, &gradients)]
    });
}

#[test]
fn a_step_of_adam_has_the_same_bits_for_any_number_of_threads() {
    let count = 3 * (1 << 14) + 7;
    let step = AdamStep { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step: 3 };
    assert_same_bits(|| {
        let [mut param, grad, mut first] = [1, 2, 3].map(|seed| numbers(seed, count));
        let mut second: Vec<f32> = numbers(4, count).iter().map(|x| x.abs()).collect();
        adam_step(&mut param, &grad, &mut first, &mut second, &step);
        vec![param, first, second]
    });
}

#[test]
fn gathered_rows_have_the_same_bits_for_any_number_of_threads() {
    let rows: Vec<u32> = (0..2000).map(|i| i * i % 7).collect();
    assert_same_bits(|| {
        let hidden = leaf::<CpuTape, 2>(&numbers(1, 7 * 3), &[7, 3]);
        let gathered = gather_rows(hidden.clone(), rows.clone());
        let gradients = (gathered.clone() * gathered).sum().backward();
        vec![values(hidden.grad(&gradients).expect("tracked"))]
    });
}
