//! Numeric routines of memory-based temporal graph networks, each with its hand-written backward pass.
//!
//! They have three forms:
//!
//! - [`cpu`]: on slices of host memory, for training, evaluation and serving on the CPU. A warm routine allocates
//!   nothing, and results are the same for any number of threads.
//! - [`TemporalOps`]: on tensors of any backend, on the CPU or a GPU, with or without a tape.
//! - `cube` (features `cuda` and `wgpu`): kernels for GPUs, CUDA and Vulkan from one source.
//!
//! [`mod@reference`] has the slow twin of each routine. Tests compare the other forms with it. Constants of a step
//! (stored memories, mails, neighbours) are passed in a plan; learned numbers are passed in slices or tensors.
//!
//! The book gives the reasons: [Kernels](../../../docs/src/design/kernels.md),
//! [Determinism](../../../docs/src/design/determinism.md). The last part of [Add an
//! operation](../../../docs/src/extend/operation.md#a-kernel) shows how to add a kernel.
//!
//! Legend: `U` unique nodes, `M` mails, `R` roots, `K` neighbours a root, `N` rows of hidden state, `W` their width,
//! `D` memory, `E` edge features, `T` time features, `H` heads.
//!
//! ```
//! use std::sync::Arc;
//! use tempograph_kernels::tensor::{CpuTape, Tensor};
//! use tempograph_kernels::{AttentionPlan, Neighbours, ScoreActivation, temporal_attention};
//!
//! // one root with two neighbours, both of them row 0 of `hidden`, 1 and 5 seconds ago
//! let neighbours = Neighbours { roots: 1, k: 2, count: vec![2], row: vec![0, 0], event: vec![0, 0], dt: vec![1.0, 5.0] };
//! let plan = AttentionPlan { neighbours, features: None, activation: ScoreActivation::Scaled(1.0), dropout: None };
//!
//! let device = Default::default();
//! let hidden = Tensor::<CpuTape, 2>::ones([1, 3], &device).require_grad();
//! let (freq, phase) = (Tensor::ones([2], &device), Tensor::zeros([2], &device));
//! let query = Tensor::ones([1, 1, 6], &device);
//!
//! let attended = temporal_attention(Arc::new(plan), hidden.clone(), query, freq, phase);
//! assert_eq!(attended.dims(), [1, 1, 6]);
//! let gradients = attended.sum().backward();
//! assert_eq!(hidden.grad(&gradients).map(|gradient| gradient.dims()), Some([1, 3]));
//! ```
pub mod cpu;
#[cfg(feature = "cube")]
pub mod cube;
mod device;
pub mod machine;
mod plan;
pub mod tensor;

#[cfg(feature = "cuda")]
pub use device::gpu::{gpu_free_bytes, gpu_total_bytes, gpus};
#[cfg(feature = "cuda")]
pub use device::nccl::Nccl;
pub use plan::adam::AdamStep;
pub use plan::dropout::Dropout;
pub use plan::mail::{Cell, MailPlan};
pub use plan::neighbours::{AttentionPlan, Neighbours, ScoreActivation};
pub use plan::pairs::PairPlan;
pub use plan::rows::Rows;
pub use tensor::ops::{
    TemporalOps, attention_weights, gather_rows, memory_update_gru, memory_update_rnn, pair_scores, product, rectify,
    temporal_attention, time_encode,
};
pub use tensor::reference;
