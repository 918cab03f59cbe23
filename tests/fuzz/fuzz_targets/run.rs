//! Any bytes as what a run kept.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tempograph_fuzz::run(bytes);
});
