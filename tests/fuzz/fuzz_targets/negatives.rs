//! Any bytes as fixed negatives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tempograph_fuzz::negatives(bytes);
});
