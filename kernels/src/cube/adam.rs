//! One optimiser step.
use super::span::{Device, UNITS, units};
use crate::AdamStep;
use burn::tensor::TensorMetadata;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// The constants of a step as the kernel reads them.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Constants {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// `1 - lr * weight_decay`
    kept: f32,
    step_size: f32,
    root_correction: f32,
}

impl<R: CubeRuntime> ConstantsLaunch<R> {
    pub(super) fn of(step: &AdamStep) -> Self {
        let AdamStep { lr, beta1, beta2, eps, weight_decay, .. } = *step;
        Self::new(beta1, beta2, eps, 1.0 - lr * weight_decay, step.step_size(), step.root_correction())
    }
}

/// Moves parameter `i` and its moments by the gradient `g`.
#[cube]
pub(super) fn moved(
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
    param[i] = param[i] * constants.kept - m * constants.step_size / root;
}

#[cube(launch)]
fn step(
    param: &mut Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    grad: &Array<f32>,
    constants: &Constants,
) {
    let i = ABSOLUTE_POS;
    if i < grad.len() {
        moved(param, first, second, i, grad[i], constants);
    }
}

/// In place where nobody else holds a tensor.
pub(super) fn adam<R: CubeRuntime>(
    tensors: [CubeTensor<R>; 3],
    grad: CubeTensor<R>,
    constants: &AdamStep,
) -> [CubeTensor<R>; 3] {
    let device = Device::of(&grad);
    let tensors = tensors.map(|tensor| {
        let tensor = into_contiguous(tensor);
        if tensor.can_mut() { tensor } else { into_contiguous(tensor.copy()) }
    });
    let [param, first, second] = tensors.each_ref().map(|tensor| device.span(tensor));
    let grad = device.span(&grad);
    if grad.len() > 0 {
        let arguments = ConstantsLaunch::of(constants);
        let (count, dim) = (units(grad.len()), CubeDim::new_1d(UNITS));
        step::launch::<R>(&device.client, count, dim, param.arg(), first.arg(), second.arg(), grad.arg(), arguments);
    }
    debug_assert!(tensors.iter().all(|tensor| tensor.shape().num_elements() == grad.len()));
    tensors
}
