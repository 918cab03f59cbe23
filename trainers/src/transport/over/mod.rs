//! One transport in each file or folder.
#[cfg(feature = "mpi")]
pub(crate) mod mpi;
#[cfg(feature = "cuda")]
pub(crate) mod nccl;
pub(crate) mod tcp;
