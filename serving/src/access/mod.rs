//! Who may ask what, and why a request has no answer.
pub(crate) mod auth;
pub(crate) mod limits;
pub(crate) mod refused;
pub(crate) mod routes;
