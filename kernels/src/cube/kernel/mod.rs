//! The kernels of the operations on tensors.
pub(crate) mod attention;
pub(crate) mod attention_backward;
pub(crate) mod memory;
pub(crate) mod memory_backward;
pub(crate) mod on_device;
pub(crate) mod pairs;
pub(crate) mod time;
