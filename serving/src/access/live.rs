//! Values that are exchanged while the server runs.

use std::sync::{Arc, PoisonError, RwLock};

use crate::access::auth::{AuthSpec, Authenticator};
use crate::access::web::{WebGuard, WebSpec};

/// A value that readers take as it is now, and that one writer replaces as a whole.
#[derive(Debug)]
pub(crate) struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    pub fn new(value: T) -> Live<T> {
        Live(RwLock::new(Arc::new(value)))
    }

    pub fn now(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// Who may do what, and from where.
#[derive(Debug)]
pub(crate) struct Access {
    pub authenticator: Authenticator,
    pub web: WebGuard,
}

impl Access {
    /// Reads the tokens from the sources that the settings name.
    ///
    /// # Errors
    /// A sentence naming the key and the fault.
    pub fn open(auth: &AuthSpec, web: &WebSpec) -> Result<Access, String> {
        web.check()?;
        let authenticator = Authenticator::open(auth)?;
        Ok(Access { web: WebGuard::new(web, authenticator.is_open()), authenticator })
    }
}
