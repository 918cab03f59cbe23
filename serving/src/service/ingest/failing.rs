//! A log that cannot be written, and when it is worth another try.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::log::LogError;

/// Least time between two tries of requests to open a failed log: each takes a while, and most will fail.
const BETWEEN: Duration = Duration::from_millis(100);

/// What the last write failed with, if it did.
#[derive(Debug, Default)]
pub(crate) struct LogHealth(Mutex<Option<Failure>>);

#[derive(Debug)]
struct Failure {
    error: LogError,
    tried: Instant,
}

impl LogHealth {
    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        // What it holds is written whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_failing(&self) -> bool {
        self.lock().is_some()
    }

    pub fn set(&self, error: LogError) {
        *self.lock() = Some(Failure { error, tried: Instant::now() });
    }

    pub fn clear(&self) {
        *self.lock() = None;
    }

    /// Does what makes the log usable again, if it is failing and the last try was long enough ago.
    ///
    /// # Errors
    /// What it failed with.
    pub fn retry(&self, reopen: impl FnOnce() -> Result<(), LogError>) -> Result<(), LogError> {
        let mut held = self.lock();
        let Some(failure) = held.as_mut() else { return Ok(()) };
        if failure.tried.elapsed() < BETWEEN {
            return Err(failure.error.clone());
        }
        failure.tried = Instant::now();
        reopen().inspect_err(|error| failure.error = error.clone())
    }
}
