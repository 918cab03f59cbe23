//! Matrix products, and routines made of them.
pub(crate) mod bf16;
pub(crate) mod gelu;
pub(crate) mod gemm;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod rows;
pub(crate) mod scratch;
pub(crate) mod tokens;
pub(crate) mod version;
pub(crate) mod window;
