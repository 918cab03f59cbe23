//! One step of Adam over the numbers of all weights.
use crate::AdamStep;
use crate::cpu::vector::simd::vectorised;
use rayon::prelude::*;

/// Numbers per task.
const CHUNK: usize = 1 << 14;

/// Updates the weights and both moments in place, number by number.
///
/// # Panics
/// If the four differ in length.
pub fn step(param: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], step: &AdamStep) {
    assert_eq!(
        [param.len(), first.len(), second.len()],
        [grad.len(); 3],
        "weights, gradients and moments differ in length"
    );
    let constants = Constants {
        decay: 1.0 - step.lr * step.weight_decay,
        step_size: step.step_size(),
        root_correction: step.root_correction(),
        beta1: step.beta1,
        beta2: step.beta2,
        eps: step.eps,
    };
    let numbers = param.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    numbers.zip(moments).for_each(|((param, grad), (first, second))| chunk(param, grad, first, second, &constants));
}

struct Constants {
    decay: f32,
    step_size: f32,
    root_correction: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
}

vectorised! {
    fn chunk<I>(param: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32], c: &Constants) {
        let Constants { decay, step_size, root_correction, beta1, beta2, eps } = *c;
        for (((param, &grad), first), second) in param.iter_mut().zip(grad).zip(first).zip(second) {
            let m = I::mul_add(beta1, *first, (1.0 - beta1) * grad);
            let v = I::mul_add(beta2, *second, (1.0 - beta2) * grad * grad);
            *param = *param * decay - step_size * m / (v.sqrt() / root_correction + eps);
            *first = m;
            *second = v;
        }
    }
}
