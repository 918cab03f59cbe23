//! Which numbers some weights have.
use std::sync::atomic::{AtomicU64, Ordering};

/// Stands for the numbers of some weights: where versions are equal, so are the numbers.
///
/// Whoever changes weights gives them a new version. What a kernel made of them under another one, such as panels packed for its products,
/// is then made anew; under the same one it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

impl Version {
    /// A version no weights have had so far.
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
