//! The gRPC schemas of `serving/proto` in Rust: messages, clients and servers. Rust clients can use them too.
//!
//! Generated. `cargo test -p tempograph-serving --features schemas --test schemas -- --ignored` generates them again.

/// The typed API: `tempograph.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod tempograph {
    include!("../../../proto/generated/tempograph.rs");
}

/// The Open Inference Protocol: `open_inference.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod open_inference {
    include!("../../../proto/generated/open_inference.rs");
}
