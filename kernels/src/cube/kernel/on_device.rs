//! The kernels on the backends of burn that CubeCL drives.
use crate::cube::array::products;
use crate::cube::kernel::{attention, attention_backward, memory, memory_backward, pairs, time};
use crate::cube::launch::gather;
use crate::tensor::kernels::Kernels;
use crate::{AttentionPlan, Cell, MailPlan, PairPlan};
use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};

impl<R: CubeRuntime, B: BoolElement> Kernels for CubeBackend<R, f32, i32, B> {
    type SavedMemoryUpdate = memory::Saved<R>;
    type SavedAttention = attention::Saved<R>;

    fn memory_forward(plan: &MailPlan, cell: Cell, weights: &[CubeTensor<R>; 6]) -> (CubeTensor<R>, memory::Saved<R>) {
        memory::forward(plan, cell, weights)
    }

    fn memory_backward(
        plan: &MailPlan,
        cell: Cell,
        weights: &[CubeTensor<R>; 6],
        kept: memory::Saved<R>,
        grad: &CubeTensor<R>,
    ) -> [CubeTensor<R>; 6] {
        memory_backward::backward(plan, cell, weights, &kept, grad)
    }

    fn attention_forward(plan: &AttentionPlan, inputs: &[CubeTensor<R>; 4]) -> (CubeTensor<R>, attention::Saved<R>) {
        attention::forward(plan, inputs)
    }

    fn attention_weights(plan: &AttentionPlan, inputs: &[CubeTensor<R>; 4]) -> CubeTensor<R> {
        attention::forward(plan, inputs).1.weights
    }

    fn attention_backward(
        plan: &AttentionPlan,
        inputs: &[CubeTensor<R>; 4],
        kept: attention::Saved<R>,
        grad: &CubeTensor<R>,
    ) -> [CubeTensor<R>; 4] {
        attention_backward::backward(plan, inputs, &kept, grad)
    }

    fn time_forward(dt: &[f32], inputs: &[CubeTensor<R>; 2]) -> CubeTensor<R> {
        time::encode(dt, inputs)
    }

    fn time_backward(dt: &[f32], inputs: &[CubeTensor<R>; 2], grad: &CubeTensor<R>) -> [CubeTensor<R>; 2] {
        time::encode_backward(dt, inputs, grad)
    }

    fn gather_forward(hidden: &CubeTensor<R>, rows: &[u32]) -> CubeTensor<R> {
        gather::gather(hidden, rows)
    }

    fn gather_backward(grad: &CubeTensor<R>, rows: &[u32], count: usize) -> CubeTensor<R> {
        gather::gather_backward(grad, rows, count)
    }

    fn product(left: &CubeTensor<R>, right: &CubeTensor<R>) -> CubeTensor<R> {
        products::batched_product(left, right)
    }

    fn pairs_forward(plan: &PairPlan, inputs: &[CubeTensor<R>; 5]) -> CubeTensor<R> {
        pairs::forward(plan, inputs)
    }

    fn pairs_backward(plan: &PairPlan, inputs: &[CubeTensor<R>; 5], grad: &CubeTensor<R>) -> [CubeTensor<R>; 5] {
        pairs::backward(plan, inputs, grad)
    }
}
