//! The formats that are read.
pub(crate) mod arrow;
pub(crate) mod companions;
pub(crate) mod csv;
pub(crate) mod edge_lists;
pub(crate) mod jodie;
pub(crate) mod npy;
pub(crate) mod parquet;
pub(crate) mod table;
pub(crate) mod tgb;
pub(crate) mod tgl;
pub(crate) mod tgn;
