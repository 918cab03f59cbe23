//! Any text is a spec or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tempograph_serving::ServeSpec;

fuzz_target!(|text: &str| {
    let _ = ServeSpec::parse(text, &[]);
    let _ = ServeSpec::parse("", &[text.to_string()]);
});
