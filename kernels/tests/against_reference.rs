//! The operations on the CPU against their slow twins.
mod common;
mod suite;

use common::{assert_close, constant, numbers, values};
use tempograph_kernels::cpu::adam_step;
use tempograph_kernels::tensor::{Cpu, CpuTape};
use tempograph_kernels::{AdamStep, reference};

type Plain = Cpu;
type Tape = CpuTape;

fn absent() -> bool {
    false
}

#[test]
fn a_step_of_adam_is_that_of_the_reference() {
    // The longest needs several tasks.
    for count in [0, 1, 7, 64, 3 * (1 << 14) + 5] {
        let mut ours = [numbers(1, count), vec![0.0; count], vec![0.0; count]];
        let mut expected = ours.each_ref().map(|numbers| constant::<Cpu, 1>(numbers, &[count]));
        for step in 1..=5 {
            let constants = AdamStep { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, step };
            let gradients = numbers(step + 1, count);
            let [weights, first, second] = &mut ours;
            adam_step(weights, &gradients, first, second, &constants);
            expected = reference::adam_step(expected, constant(&gradients, &[count]), &constants);
            for (ours, expected) in ours.iter().zip(&expected) {
                assert_close(ours, &values(expected.clone()), 1e-6, &format!("step {step} of {count} weights"));
            }
        }
    }
}
