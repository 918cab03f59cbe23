//! Any bytes as the roles of columns.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tempograph_fuzz::columns(bytes);
});
