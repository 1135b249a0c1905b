//! Any text as a configuration: the reader ends, every fault points into the text, and what is accepted is accepted again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    match config::load(text, Path::new("fuzz.toml")) {
        Ok(checked) => {
            let again = config::load(text, Path::new("fuzz.toml")).expect("the same text again");
            assert_eq!(again, checked);
            assert!(!checked.policy.ports.is_empty());
        }
        Err(faults) => {
            assert!(!faults.as_slice().is_empty(), "a refusal says why");
            assert!(!faults.to_string().is_empty());
        }
    }
});
