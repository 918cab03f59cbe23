//! A history in files: snapshots, views, and which parts of both have to be written.
pub(crate) mod extent;
pub(crate) mod snapshot;
pub(crate) mod view_store;
