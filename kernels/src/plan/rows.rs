//! Rows of constant features that are stored elsewhere: a mapped file, a growing store.

/// Read-only rows addressed by a number that need not be dense.
///
/// A kernel reads a feature row in place and needs no gathered copy. `width` is the length of every row. `row` panics
/// on an id that was never stored: ids come from the caller's own plan.
pub trait Rows: std::fmt::Debug + Send + Sync {
    /// Columns of every row.
    fn width(&self) -> usize;
    /// The row stored under `id`, `[width]`.
    fn row(&self, id: u64) -> &[f32];
}
