//! The interfaces of a server, and what they share.
pub(crate) mod admin;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod listen;
pub(crate) mod middleware;
pub(crate) mod oip;
pub(crate) mod page;
pub(crate) mod server;
