//! The generated Rust code matches the gRPC schemas:
//! `cargo test -p tempograph-serving --features schemas --test schemas`. With `-- --ignored` it is generated again.
#![cfg(feature = "schemas")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

fn proto() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proto")
}

/// Generated files: their name, and the generator's name for them.
const FILES: [(&str, &str); 3] =
    [("open_inference.rs", "inference.rs"), ("tempograph.rs", "tempograph.v1.rs"), (DESCRIPTORS, DESCRIPTORS)];

/// The schemas themselves, for clients that ask the server for them.
const DESCRIPTORS: &str = "descriptors.bin";

fn generated() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = protox::Compiler::new([proto()]).unwrap();
    compiler.open_files(["tempograph.proto", "open_inference.proto"]).unwrap();
    std::fs::write(folder.path().join(DESCRIPTORS), compiler.encode_file_descriptor_set()).unwrap();
    compiler.include_source_info(true);
    let schemas = compiler.file_descriptor_set();
    // Clients provide their own connection.
    let generator = tonic_prost_build::configure().build_transport(false).bytes(".inference").out_dir(folder.path());
    generator.compile_fds(schemas).unwrap();
    folder
}

#[test]
fn the_generated_code_matches_the_schemas() {
    let folder = generated();
    for (name, written) in FILES {
        let checked_in = std::fs::read(proto().join("generated").join(name)).unwrap();
        let now = std::fs::read(folder.path().join(written)).unwrap();
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
