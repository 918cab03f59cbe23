//! Any text as a server's settings.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tempograph_fuzz::spec(text));
