//! Any bytes as the end of the log's journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tempograph_fuzz::journal(bytes));
