//! Any bytes on a connection, or behind the head of a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tempograph_fuzz::http(bytes));
