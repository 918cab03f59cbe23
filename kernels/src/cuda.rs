//! The operations on NVIDIA GPUs, for now as the tensor library's own operations compose them.
use crate::tensor::{Cuda, CudaTape};
use crate::{AdamStep, AttentionPlan, Cell, MailPlan, TemporalOps, reference};
use burn::tensor::backend::Backend;
use burn::tensor::ops::{FloatTensor, FloatTensorOps};
use burn::tensor::{Tensor, TensorMetadata, TensorPrimitive};
use std::sync::Arc;

fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

macro_rules! composed {
    ($backend:ty) => {
        impl TemporalOps for $backend {
            fn memory_update(plan: Arc<MailPlan>, cell: Cell, weights: [FloatTensor<Self>; 6]) -> FloatTensor<Self> {
                let [w_ih, w_hh, b_ih, b_hh, freq, phase] = weights;
                let weights = ([tensor(w_ih), tensor(w_hh)], [b_ih, b_hh, freq, phase].map(tensor));
                primitive(reference::memory_update::<Self>(&plan, cell, weights))
            }

            fn temporal_attention(plan: Arc<AttentionPlan>, inputs: [FloatTensor<Self>; 4]) -> FloatTensor<Self> {
                let [hidden, query, freq, phase] = inputs;
                primitive(reference::temporal_attention::<Self>(&plan, tensor(hidden), tensor(query), tensor(freq), tensor(phase)))
            }

            fn attention_weights(plan: &AttentionPlan, inputs: [FloatTensor<Self>; 4]) -> FloatTensor<Self> {
                let [hidden, query, freq, phase] = inputs;
                let weights = reference::attention_weights::<Self>(plan, tensor(hidden), tensor(query), tensor(freq), tensor(phase));
                primitive(weights.detach())
            }

            fn time_encode(dt: &[f32], [freq, phase]: [FloatTensor<Self>; 2]) -> FloatTensor<Self> {
                primitive(reference::time_encode::<Self>(dt, tensor(freq), tensor(phase)))
            }

            fn gather_rows(hidden: FloatTensor<Self>, rows: Arc<[u32]>) -> FloatTensor<Self> {
                primitive(reference::gather_rows::<Self>(tensor(hidden), &rows))
            }

            fn adam_step(tensors: [FloatTensor<Self>; 3], grad: FloatTensor<Self>, step: &AdamStep) -> [FloatTensor<Self>; 3] {
                let shape = grad.shape();
                let flat = |primitive| tensor::<Self, 1>(Self::float_reshape(primitive, [shape.num_elements()].into()));
                let result = reference::adam_step(tensors.map(flat), flat(grad), step);
                result.map(|flat| Self::float_reshape(primitive(flat.detach()), shape.clone()))
            }
        }
    };
}

composed!(Cuda);
composed!(CudaTape);
