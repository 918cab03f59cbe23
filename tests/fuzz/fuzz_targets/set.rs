//! Any bytes as a prepared set.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tempograph_fuzz::set(bytes);
});
