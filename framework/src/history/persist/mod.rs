//! A history in files: snapshots, views, and what of both has to be written.
pub(crate) mod extent;
pub(crate) mod snapshot;
pub(crate) mod view_store;
