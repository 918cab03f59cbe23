//! The kernels on burn's CPU backend: tensors are read in place and results are moved in, without copies.
use crate::cpu::{adam, attention, attention_backward, gather, memory, memory_backward, time};
use crate::kernels::Kernels;
use crate::{AdamStep, AttentionPlan, Cell, MailPlan};
use burn::tensor::{Bytes, DType, Shape, TensorMetadata};
use burn_flex::{Flex, FlexTensor, Layout};

/// The numbers of a tensor in row-major order, copied only where it is a view.
fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    assert_eq!(tensor.dtype(), DType::F32, "a fused operation computes in f32");
    tensor.to_contiguous()
}

fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("made contiguous and checked to be f32 above")
}

fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(numbers), Layout::contiguous(shape.into()), DType::F32)
}

/// Gives each vector the shape of the tensor it is the gradient of.
fn like<const N: usize>(vectors: [Vec<f32>; N], tensors: &[FlexTensor; N]) -> [FlexTensor; N] {
    let mut shapes = tensors.iter().map(TensorMetadata::shape);
    vectors.map(|vector| tensor(vector, shapes.next().expect("as many tensors as vectors")))
}

fn cell_weights(tensors: &[FlexTensor; 6]) -> memory::Weights<'_> {
    let [w_ih, w_hh, b_ih, b_hh, freq, phase] = tensors.each_ref().map(numbers);
    memory::Weights { w_ih, w_hh, b_ih, b_hh, freq, phase }
}

fn attention_inputs(tensors: &[FlexTensor; 4]) -> attention::Inputs<'_> {
    let (width, heads) = (tensors[0].shape()[1], tensors[1].shape()[0]);
    let [hidden, query, freq, phase] = tensors.each_ref().map(numbers);
    attention::Inputs { hidden, query, freq, phase, width, heads }
}

impl Kernels for Flex {
    fn memory_forward(plan: &MailPlan, cell: Cell, weights: &[FlexTensor; 6]) -> [FlexTensor; 2] {
        let weights = weights.each_ref().map(contiguous);
        let weights = cell_weights(&weights);
        let shape = memory::Shape::new(plan, cell, &weights);
        let (output, kept) = memory::forward(plan, &shape, &weights);
        let width = kept.len();
        [tensor(output, [plan.unique, shape.d]), tensor(kept, [width])]
    }

    fn memory_backward(plan: &MailPlan, cell: Cell, weights: &[FlexTensor; 6], kept: &FlexTensor, grad: &FlexTensor) -> [FlexTensor; 6] {
        let tensors = weights.each_ref().map(contiguous);
        let weights = cell_weights(&tensors);
        let shape = memory::Shape::new(plan, cell, &weights);
        let (kept, grad) = (contiguous(kept), contiguous(grad));
        like(memory_backward::backward(plan, &shape, &weights, numbers(&kept), numbers(&grad)), &tensors)
    }

    fn attention_forward(plan: &AttentionPlan, inputs: &[FlexTensor; 4]) -> [FlexTensor; 3] {
        let tensors = inputs.each_ref().map(contiguous);
        let inputs = attention_inputs(&tensors);
        let attended = attention::forward(plan, &inputs);
        let kept = [inputs.heads, plan.neighbours.roots, plan.neighbours.k];
        [tensor(attended.output, tensors[1].shape()), tensor(attended.weights, kept), tensor(attended.slopes, kept)]
    }

    fn attention_backward(plan: &AttentionPlan, inputs: &[FlexTensor; 4], kept: &[FlexTensor; 2], grad: &FlexTensor) -> [FlexTensor; 4] {
        let tensors = inputs.each_ref().map(contiguous);
        let inputs = attention_inputs(&tensors);
        let [weights, slopes] = kept.each_ref().map(numbers);
        let grad = contiguous(grad);
        like(attention_backward::backward(plan, &inputs, weights, slopes, numbers(&grad)), &tensors)
    }

    fn time_forward(dt: &[f32], inputs: &[FlexTensor; 2]) -> FlexTensor {
        let tensors = inputs.each_ref().map(contiguous);
        let [freq, phase] = tensors.each_ref().map(numbers);
        tensor(time::encode(dt, freq, phase), [dt.len(), freq.len()])
    }

    fn time_backward(dt: &[f32], inputs: &[FlexTensor; 2], grad: &FlexTensor) -> [FlexTensor; 2] {
        let tensors = inputs.each_ref().map(contiguous);
        let [freq, phase] = tensors.each_ref().map(numbers);
        let grad = contiguous(grad);
        like(time::encode_backward(dt, freq, phase, numbers(&grad)), &tensors)
    }

    fn gather_forward(hidden: &FlexTensor, rows: &[u32]) -> FlexTensor {
        let hidden = contiguous(hidden);
        let width = hidden.shape()[1];
        tensor(gather::gather(numbers(&hidden), width, rows), [rows.len(), width])
    }

    fn gather_backward(grad: &FlexTensor, rows: &[u32], count: usize) -> FlexTensor {
        let grad = contiguous(grad);
        let width = grad.shape()[1];
        tensor(gather::gather_backward(numbers(&grad), width, rows, count), [count, width])
    }

    fn adam(tensors: [FlexTensor; 3], grad: FlexTensor, step: &AdamStep) -> [FlexTensor; 3] {
        // the originals are dropped here: a tensor nobody else holds is then updated in place
        let mut tensors = tensors.map(|tensor| contiguous(&tensor));
        let grad = contiguous(&grad);
        let [param, first, second] = tensors.each_mut().map(FlexTensor::storage_mut);
        adam::step(param, numbers(&grad), first, second, step);
        tensors
    }
}
