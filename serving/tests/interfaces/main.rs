//! What a client of the server meets, in every protocol it speaks.
#![allow(clippy::unwrap_used, reason = "tests")]

mod auth;
#[path = "../common/mod.rs"]
mod common;
mod garbage;
mod grpc;
mod limits;
mod oip;
mod openapi;
mod starting;
mod stream;
mod tls;
