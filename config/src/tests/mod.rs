//! Tests of the crate as a whole: text in, policy or faults out.

use std::path::Path;

use crate::{Checked, Fault, load};

mod any_text;
pub(crate) mod asked;
mod bounds;
mod conformance;
mod contradictions;
mod examples;
mod many_rules;
mod mistakes;
mod odd_files;
mod unknown_keys;
mod words;

/// Every key there is, once.
const FULL: &str = include_str!("../full.toml");

/// The policy of a text that must be valid.
fn valid(text: &str) -> Checked {
    load(text, Path::new("test.toml")).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

/// The faults of a text, warnings too, whether it is refused or not.
fn faults(text: &str) -> Vec<Fault> {
    match load(text, Path::new("test.toml")) {
        Ok(checked) => checked.warnings,
        Err(faults) => faults.as_slice().to_vec(),
    }
}

/// The codes of the faults of a text.
fn codes(text: &str) -> Vec<&'static str> {
    faults(text).iter().map(|fault| fault.code).collect()
}

/// The full file with one line, which it has exactly once, replaced.
fn full_with(line: &str, by: &str) -> String {
    let line = format!("\n{line}\n");
    assert_eq!(FULL.matches(&line).count(), 1, "{line}");
    FULL.replacen(&line, &format!("\n{by}\n"), 1)
}
