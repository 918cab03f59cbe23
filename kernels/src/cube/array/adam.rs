//! One step of Adam at one weight, for the kernel over all of them (`weights.rs`).
use crate::AdamStep;
use burn_cubecl::CubeRuntime;
use cubecl::prelude::*;

/// The constants of a step as the kernel reads them.
#[derive(CubeType, CubeLaunch)]
pub(crate) struct Constants {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// `1 - lr * weight_decay`
    decay: f32,
    step_size: f32,
    root_correction: f32,
}

impl<R: CubeRuntime> ConstantsLaunch<R> {
    pub(crate) fn of(step: &AdamStep) -> Self {
        let AdamStep { lr, beta1, beta2, eps, weight_decay, .. } = *step;
        Self::new(beta1, beta2, eps, 1.0 - lr * weight_decay, step.step_size(), step.root_correction())
    }
}

/// Moves parameter `i` and its moments by the gradient `g`.
#[cube]
pub(crate) fn adam_update(
    param: &mut Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    i: usize,
    g: f32,
    constants: &Constants,
) {
    let m = first[i] * constants.beta1 + g * (1.0f32 - constants.beta1);
    let v = second[i] * constants.beta2 + g * g * (1.0f32 - constants.beta2);
    first[i] = m;
    second[i] = v;
    let root = v.sqrt() / constants.root_correction + constants.eps;
    param[i] = param[i] * constants.decay - m * constants.step_size / root;
}
