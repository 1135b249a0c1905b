//! A mistake made on purpose at every key of every section is explained where it stands: file, line, column and key.

use super::{FULL, faults};
use crate::{Fault, Severity, forms};

/// The line and its number, from 1, of the first such key of the first such table that has it.
fn written(header: &str, key: &str) -> Option<(usize, &'static str)> {
    let mut current = "";
    FULL.lines().zip(1..).find_map(|(line, number)| {
        if line.starts_with('[') {
            current = line;
        }
        (current == header && line.starts_with(&format!("{key} = "))).then_some((number, line))
    })
}

/// The full file with another line in the place of one.
fn with_line(number: usize, by: &str) -> String {
    FULL.lines().zip(1..).map(|(line, at)| if at == number { by } else { line }).collect::<Vec<_>>().join("\n")
}

/// What is said of one line.
fn on_line(text: &str, number: usize) -> Vec<Fault> {
    let errors = faults(text).into_iter().filter(|fault| fault.severity == Severity::Error);
    errors.filter(|fault| fault.place.is_some_and(|place| place.line == number)).collect()
}

/// Every section, with the header it has in a file.
fn sections() -> impl Iterator<Item = (String, &'static crate::Form)> {
    forms().values().filter(|form| !form.kind.is_empty()).map(|form| {
        let header = if form.several { format!("[[{}]]", form.kind) } else { format!("[{}]", form.kind) };
        (header, form)
    })
}

#[test]
fn a_value_no_key_takes_is_explained_at_its_line_and_column() {
    let mut tried = 0;
    for (header, form) in sections() {
        for key in form.keys.keys() {
            let (number, _) = written(&header, key).unwrap_or_else(|| panic!("{header} {key} is not in the full file"));
            // No key takes a date.
            let text = with_line(number, &format!("{key} = 1979-05-27"));
            let told = on_line(&text, number);
            let fault = told.first().unwrap_or_else(|| panic!("{header} {key}: {:?}", faults(&text)));
            assert_eq!(fault.place.unwrap().column, key.len() + 4, "{fault}");
            assert!(fault.path.ends_with(key.as_str()) && fault.message.contains(key.as_str()), "{fault}");
            assert!(!fault.advice.is_empty(), "{fault}");
            let shown = fault.to_string();
            assert!(
                shown.starts_with(&format!("test.toml:{number}:{}: error[wrong-type]: ", key.len() + 4)),
                "{shown}"
            );
            tried += 1;
        }
    }
    assert!(tried > 120, "{tried}");
}

#[test]
fn a_key_that_is_missing_is_named_at_the_table_that_lacks_it() {
    let mut tried = 0;
    for (header, form) in sections() {
        for (key, _) in form.keys.iter().filter(|(_, key)| key.required) {
            let (number, _) = written(&header, key).unwrap();
            let table =
                FULL.lines().take(number).collect::<Vec<_>>().iter().rposition(|line| line.starts_with('[')).unwrap()
                    + 1;
            let text = with_line(number, "");
            let missing = on_line(&text, table).into_iter().find(|fault| fault.code == "missing-key");
            let fault = missing.unwrap_or_else(|| panic!("{header} {key}: {:?}", faults(&text)));
            assert!(fault.message.contains(&format!("`{key}`")) && !fault.advice.is_empty(), "{fault}");
            tried += 1;
        }
    }
    assert!(tried > 25, "{tried}");
}
