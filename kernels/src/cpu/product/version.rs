//! Versions of weights.
use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies the numbers of some weights: equal versions mean equal numbers.
///
/// A caller that changes weights gives them a new version. A kernel then recomputes what it derived from them, such as
/// panels packed for its products; with the same version it reuses that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

impl Version {
    /// A version that no weights have had.
    pub fn fresh() -> Version {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Version(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Version {
    fn default() -> Version {
        Version::fresh()
    }
}
