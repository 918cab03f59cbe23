//! Any bytes as a file of an artifact.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tempograph_fuzz::artifact(bytes));
