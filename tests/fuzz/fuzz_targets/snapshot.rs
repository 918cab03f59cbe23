//! Any bytes as a snapshot's note.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tempograph_fuzz::snapshot(bytes));
