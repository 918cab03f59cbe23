//! How the processes of one training send each other numbers: over TCP, MPI or NCCL.
pub(crate) mod exchange;
pub(crate) mod launch;
pub(crate) mod machine;
pub(crate) mod mesh;
pub(crate) mod over;
