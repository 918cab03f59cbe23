//! Who may do what, and the errors of requests.
pub(crate) mod auth;
pub(crate) mod error;
pub(crate) mod limits;
pub(crate) mod live;
pub(crate) mod routes;
pub(crate) mod web;
