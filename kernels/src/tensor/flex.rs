//! The kernels on burn's CPU backend: tensors are read in place and results are moved in, without copies.
use crate::cpu::attention::{Attention, NeighbourTable};
use crate::cpu::vector::time;
use crate::cpu::{
    CellGradients, CellWeights, MemoryUpdate, PaddedRows, PairGradients, PairInputs, PairScores, Precision,
    TimeWeights, Version, gather,
};
use crate::tensor::kernels::Kernels;
use crate::{AttentionPlan, Cell, MailPlan, PairPlan};
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

fn cell_weights(tensors: &[FlexTensor; 6]) -> (CellWeights<'_>, TimeWeights<'_>) {
    let [w_ih, w_hh, b_ih, b_hh, freq, phase] = tensors.each_ref().map(numbers);
    (
        CellWeights { w_ih, w_hh, b_ih, b_hh, version: Version::fresh(), precision: Precision::F32 },
        TimeWeights { freq, phase },
    )
}

fn table(tensors: &[FlexTensor; 4]) -> NeighbourTable<'_> {
    let [hidden, _, freq, phase] = tensors.each_ref().map(numbers);
    let width = tensors[0].shape()[1];
    NeighbourTable { hidden, width, stride: width, time: TimeWeights { freq, phase } }
}

impl Kernels for Flex {
    type SavedMemoryUpdate = MemoryUpdate;
    type SavedAttention = Attention;

    fn memory_forward(plan: &MailPlan, cell: Cell, weights: &[FlexTensor; 6]) -> (FlexTensor, MemoryUpdate) {
        let tensors = weights.each_ref().map(contiguous);
        let (weights, time) = cell_weights(&tensors);
        let mut output = vec![0.0; plan.memory.len()];
        let mut update = MemoryUpdate::default();
        update.forward(plan, cell, weights, time, &mut output);
        (tensor(output, [plan.unique, tensors[1].shape()[1]]), update)
    }

    fn memory_backward(
        plan: &MailPlan,
        cell: Cell,
        weights: &[FlexTensor; 6],
        mut kept: MemoryUpdate,
        grad: &FlexTensor,
    ) -> [FlexTensor; 6] {
        let tensors = weights.each_ref().map(contiguous);
        let (_, time) = cell_weights(&tensors);
        let grad = contiguous(grad);
        let mut gradients = tensors.each_ref().map(|tensor| vec![0.0; numbers(tensor).len()]);
        let [w_ih, w_hh, b_ih, b_hh, freq, phase] = gradients.each_mut().map(Vec::as_mut_slice);
        kept.backward(plan, cell, time, numbers(&grad), CellGradients { w_ih, w_hh, b_ih, b_hh }, [freq, phase]);
        like(gradients, &tensors)
    }

    fn attention_forward(plan: &AttentionPlan, inputs: &[FlexTensor; 4]) -> (FlexTensor, Attention) {
        let tensors = inputs.each_ref().map(contiguous);
        let mut attention = Attention::default();
        let output = attention.forward(&plan.borrowed(), table(&tensors), tensors[1].shape()[0], numbers(&tensors[1]));
        (tensor(output, tensors[1].shape()), attention)
    }

    fn attention_weights(plan: &AttentionPlan, inputs: &[FlexTensor; 4]) -> FlexTensor {
        let (_, attention) = Self::attention_forward(plan, inputs);
        let shape = [inputs[1].shape()[0], plan.neighbours.roots, plan.neighbours.k];
        tensor(attention.weights(shape), shape)
    }

    fn attention_backward(
        plan: &AttentionPlan,
        inputs: &[FlexTensor; 4],
        mut kept: Attention,
        grad: &FlexTensor,
    ) -> [FlexTensor; 4] {
        let tensors = inputs.each_ref().map(contiguous);
        let grad = contiguous(grad);
        like(kept.backward(&plan.borrowed(), table(&tensors), tensors[1].shape()[0], numbers(&grad)), &tensors)
    }

    fn time_forward(dt: &[f32], inputs: &[FlexTensor; 2]) -> FlexTensor {
        let tensors = inputs.each_ref().map(contiguous);
        let [freq, phase] = tensors.each_ref().map(numbers);
        tensor(time::encode(dt, TimeWeights { freq, phase }), [dt.len(), freq.len()])
    }

    fn time_backward(dt: &[f32], inputs: &[FlexTensor; 2], grad: &FlexTensor) -> [FlexTensor; 2] {
        let tensors = inputs.each_ref().map(contiguous);
        let [freq, phase] = tensors.each_ref().map(numbers);
        let grad = contiguous(grad);
        like(time::encode_backward(dt, TimeWeights { freq, phase }, numbers(&grad)), &tensors)
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

    fn pairs_forward(plan: &PairPlan, inputs: &[FlexTensor; 5]) -> FlexTensor {
        let (tensors, [a, b, c]) = pair_tables(inputs);
        let mut scores = vec![0.0; plan.i.len()];
        PairScores::default().forward(pair_inputs(plan, [&a, &b, &c], &tensors), numbers(&tensors[4])[0], &mut scores);
        tensor(scores, [plan.i.len()])
    }

    fn pairs_backward(plan: &PairPlan, inputs: &[FlexTensor; 5], grad: &FlexTensor) -> [FlexTensor; 5] {
        let (tensors, [a, b, c]) = pair_tables(inputs);
        let (mut of_a, mut of_b, mut of_weight, mut of_bias) =
            (PaddedRows::default(), PaddedRows::default(), vec![0.0; a.columns()], [0.0]);
        let gradients = PairGradients { a: &mut of_a, b: &mut of_b, weight: &mut of_weight, bias: &mut of_bias };
        let mut pairs = PairScores::default();
        pairs.backward(pair_inputs(plan, [&a, &b, &c], &tensors), numbers(&contiguous(grad)), gradients);
        let of_c = if c.rows() == 0 { Vec::new() } else { unpadded(pairs.hidden()) };
        like([unpadded(&of_a), unpadded(&of_b), of_c, of_weight, of_bias.into()], &tensors)
    }
}

/// The inputs of pairs, and the three tables among them with padded rows.
fn pair_tables(inputs: &[FlexTensor; 5]) -> ([FlexTensor; 5], [PaddedRows; 3]) {
    let tensors = inputs.each_ref().map(contiguous);
    let padded = |tensor: &FlexTensor| {
        let (mut rows, shape) = (PaddedRows::default(), tensor.shape());
        rows.zeros(shape[0], shape[1]);
        numbers(tensor)
            .chunks_exact(shape[1])
            .enumerate()
            .for_each(|(row, numbers)| rows.row_mut(row).copy_from_slice(numbers));
        rows
    };
    let tables = [0, 1, 2].map(|table| padded(&tensors[table]));
    (tensors, tables)
}

fn pair_inputs<'a>(plan: &'a PairPlan, [a, b, c]: [&'a PaddedRows; 3], tensors: &'a [FlexTensor; 5]) -> PairInputs<'a> {
    let c = (c.rows() > 0).then_some(c);
    PairInputs { a, b, i: &plan.i, j: &plan.j, c, weight: numbers(&tensors[3]) }
}

fn unpadded(rows: &PaddedRows) -> Vec<f32> {
    (0..rows.rows()).flat_map(|row| rows.row(row)).copied().collect()
}
