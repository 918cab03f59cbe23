//! The interfaces of the server, in every protocol.
#![allow(clippy::unwrap_used, reason = "tests")]

mod auth;
#[path = "../common/mod.rs"]
mod common;
mod garbage;
mod grpc;
mod health;
mod limits;
mod oip;
mod openapi;
mod probes;
mod starting;
mod stream;
mod tls;
mod web;
