//! The generated Rust code matches the gRPC schemas:
//! `cargo test -p tempograph-serving --features schemas --test schemas`. With `-- --ignored` it is generated again.
#![cfg(feature = "schemas")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

fn proto() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto")
}

/// Generated files: their name, and the generator's name for them.
const FILES: [(&str, &str); 2] = [("open_inference.rs", "inference.rs"), ("tempograph.rs", "tempograph.v1.rs")];

fn generated() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let schemas = protox::compile(["tempograph.proto", "open_inference.proto"], [proto()]).unwrap();
    // Clients provide their own connection.
    let generator = tonic_prost_build::configure().build_transport(false).bytes(".inference").out_dir(folder.path());
    generator.compile_fds(schemas).unwrap();
    folder
}

#[test]
fn what_is_checked_in_is_what_the_schemas_say() {
    let folder = generated();
    for (name, written) in FILES {
        let checked_in = std::fs::read_to_string(proto().join("generated").join(name)).unwrap();
        let now = std::fs::read_to_string(folder.path().join(written)).unwrap();
        assert!(checked_in == now, "{name} is out of date: run this test with `-- --ignored`");
    }
}

#[test]
#[ignore = "writes into the source"]
fn write_anew() {
    let folder = generated();
    for (name, written) in FILES {
        std::fs::copy(folder.path().join(written), proto().join("generated").join(name)).unwrap();
    }
}
