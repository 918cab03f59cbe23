//! The formats that are read.
pub(crate) mod companions;
pub(crate) mod csv;
pub(crate) mod jodie;
pub(crate) mod npy;
pub(crate) mod parquet;
pub(crate) mod snap;
pub(crate) mod tgl;
pub(crate) mod tgn;
