//! Any text as a session match: the parser ends, says what is wrong, and what it accepts prints as it reads.
#![no_main]

use control::session_match::SessionMatch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    match text.parse::<SessionMatch>() {
        Ok(wanted) => {
            let printed = wanted.to_string();
            assert_eq!(printed.parse::<SessionMatch>().map(|again| again.to_string()), Ok(printed.clone()));
            assert_eq!(wanted.is_all(), text.split_whitespace().next().is_none());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
