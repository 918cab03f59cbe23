//! The health of a log that may fail, and when to retry.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::log::LogError;

/// Least time between two retries to open a failed log: each retry takes time, and most fail.
const BETWEEN: Duration = Duration::from_millis(100);

/// The error of the last write, if it failed.
#[derive(Debug, Default)]
pub(crate) struct LogHealth(Mutex<Option<Failure>>);

#[derive(Debug)]
struct Failure {
    error: LogError,
    tried: Instant,
}

impl LogHealth {
    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        // Ignoring poison is safe: the value is written in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_failing(&self) -> bool {
        self.lock().is_some()
    }

    /// The error of the last try, if it failed.
    pub fn failure(&self) -> Option<LogError> {
        self.lock().as_ref().map(|failure| failure.error.clone())
    }

    pub fn set(&self, error: LogError) {
        *self.lock() = Some(Failure { error, tried: Instant::now() });
    }

    pub fn clear(&self) {
        *self.lock() = None;
    }

    /// Calls `reopen` to make the log usable again, if the log is failing and the last retry was long enough ago.
    ///
    /// # Errors
    /// The error of the log.
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
