//! Any bytes as an entry of the log of record.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tempograph_fuzz::entry(bytes));
