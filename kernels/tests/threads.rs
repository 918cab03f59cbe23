//! The number of threads changes nothing, not even the last bit.
mod common;

use common::*;
use tempograph_kernels::tensor::CpuTape;
use tempograph_kernels::{Cell, ScoreActivation, gather_rows};

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
    let sizes = AttentionSizes { roots: 150, k: 10, n: 90, w: 20, e: Some(9), t: 11, heads: 2, activation, rate, lonely: false };
    assert_same_bits(|| fused_attention::<CpuTape>(sizes));
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
