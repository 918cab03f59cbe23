//! Any bytes as Arrow IPC.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tempograph_fuzz::arrow(bytes);
});
