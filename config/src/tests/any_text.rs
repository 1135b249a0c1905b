//! No text, however strange, makes `load` panic; and what it says always points into the text.

use std::path::Path;

use proptest::prelude::*;

use super::{FULL, faults};
use crate::load;

/// Pieces a mutation puts in: what TOML and our own syntaxes give a meaning to.
const PIECES: [&str; 28] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "\n",
    "#",
    ",",
    ".",
    "@",
    "/",
    "-",
    ":",
    "0",
    "-1",
    "999999999999",
    "0x1f",
    "1e9",
    "nan",
    "true",
    "2026-01-01",
    "\u{202e}",
    "é",
    "\0",
];

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        let _ = load(&text, Path::new("x"));
    }

    #[test]
    fn mutated_configurations_are_answered(
        cuts in prop::collection::vec((0.0..1.0_f64, 0_usize..40, 0..PIECES.len()), 1..8),
    ) {
        let mut text: Vec<char> = FULL.chars().collect();
        for (place, length, piece) in cuts {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of a length is one")]
            let start = (place * text.len() as f64) as usize;
            let end = (start + length).min(text.len());
            text.splice(start..end, PIECES[piece].chars());
        }
        let text: String = text.into_iter().collect();
        let lines = text.lines().count() + 1;
        for fault in faults(&text) {
            prop_assert!(!fault.message.is_empty());
            prop_assert!(!fault.to_string().contains(['\n', '\u{1b}', '\0']), "{:?}", fault);
            for place in fault.place.iter().chain(&fault.other) {
                prop_assert!((1..=lines).contains(&place.line) && place.column >= 1);
            }
        }
    }

    #[test]
    fn lines_in_any_order_are_answered(order in Just(FULL.lines().collect::<Vec<_>>()).prop_shuffle()) {
        let _ = load(&order.join("\n"), Path::new("x"));
    }
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(100_000),
        "a=".to_owned() + &"[".repeat(100_000),
        "a=".to_owned() + &"{b=".repeat(100_000),
        "a.".repeat(100_000),
    ] {
        assert!(load(&text, Path::new("x")).is_err());
    }
}

#[test]
fn a_large_file_of_nothing_but_faults_is_answered() {
    let text = "x = ".to_owned() + &"=\n".repeat(2_000_000);
    assert!(load(&text, Path::new("x")).is_err());
    let list = FULL.replacen("workers = [1, 2]", &format!("workers = [{}]", "'a',".repeat(1_000_000)), 1);
    let faults = faults(&list);
    assert_eq!(faults.len(), 10_001);
}
