//! What readers of all formats share: lines, columns, times, features, and how they become a dataset.
pub(crate) mod assemble;
pub(crate) mod columns;
pub(crate) mod dates;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod features;
pub(crate) mod ids;
pub(crate) mod input;
pub(crate) mod options;
pub(crate) mod text;
pub(crate) mod times;
