//! Who may ask what, and why a request has no answer.
pub(crate) mod auth;
pub(crate) mod error;
pub(crate) mod limits;
pub(crate) mod routes;
