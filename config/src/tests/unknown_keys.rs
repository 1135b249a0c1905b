//! CFG-02: each key misspelt by one letter is an error that names the near key, and is never ignored.

use super::{FULL, asked, faults, valid};

/// The header of the table that line `number` of `text` is in, as the readers name it.
fn header(text: &str, number: usize) -> &str {
    text.lines().take(number).filter(|line| line.starts_with('[')).last().unwrap_or("")
}

#[test]
fn the_full_file_has_every_key_there_is() {
    asked::take();
    valid(FULL);
    for (table, key) in asked::take() {
        let is_key =
            |(number, line): (usize, &str)| line.starts_with(&format!("{key} =")) && header(FULL, number) == table;
        let is_table = FULL.lines().any(|line| {
            let name = line.trim_matches(['[', ']']);
            line.starts_with('[')
                && name.rsplit_once('.').unwrap_or(("", name)) == (table.trim_matches(['[', ']']), key)
        });
        let not_yet = ["replication", "shared_address", "function", "graph"].contains(&key);
        assert!(is_table || not_yet || FULL.lines().enumerate().any(is_key), "{table} {key} is not in full.toml");
    }
}

#[test]
fn every_misspelt_key_is_refused_by_its_near_name() {
    let mut tried = 0;
    for (number, line) in FULL.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
        let last = key.chars().last().unwrap();
        for (wrong, column) in [
            (format!("{key}x"), 1),
            (key[..key.len() - 1].to_owned(), 1),
            (format!("{key}{last}"), 1),
            (key.replacen(|_: char| true, "x", 1), 1),
        ] {
            if wrong.is_empty() {
                continue;
            }
            let text: Vec<_> = FULL
                .lines()
                .enumerate()
                .map(|(n, l)| if n == number { l.replacen(key, &wrong, 1) } else { l.to_owned() })
                .collect();
            let faults = faults(&text.join("\n"));
            let fault = faults
                .iter()
                .find(|fault| fault.code == "unknown-key")
                .unwrap_or_else(|| panic!("{wrong}: {faults:?}"));
            let place = fault.place.unwrap();
            assert_eq!((place.line, place.column), (number + 1, column), "{fault}");
            assert_eq!(fault.advice, format!("did you mean `{key}`?"), "{fault}");
            tried += 1;
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn every_misspelt_table_is_refused_by_its_near_name() {
    let mut tried = 0;
    for line in FULL.lines().filter(|line| line.starts_with('[')) {
        let table = line.trim_matches(['[', ']']);
        let name = table.rsplit('.').next().unwrap();
        let wrong = format!("{table}s");
        // The tables below it, too: alone they would be another mistake.
        let text = FULL.replace(&format!("[{table}]"), &format!("[{wrong}]"));
        let faults = faults(&text.replace(&format!("[{table}."), &format!("[{wrong}.")));
        let fault =
            faults.iter().find(|fault| fault.code == "unknown-key").unwrap_or_else(|| panic!("{wrong}: {faults:?}"));
        assert_eq!(fault.advice, format!("did you mean `{name}`?"), "{fault}");
        tried += 1;
    }
    assert!(tried >= 18, "{tried}");
}

#[test]
fn a_key_near_nothing_is_refused_with_the_list_of_keys() {
    let text = FULL.replacen("[cores]", "[cores]\nturbo_mode_please = true", 1);
    let line = text.lines().position(|line| line.starts_with("turbo")).unwrap() + 1;
    assert_eq!(
        faults(&text)[0].to_string(),
        format!(
            "test.toml:{line}:1: error[unknown-key]: `turbo_mode_please` is not a key of [cores]; it can have: control, workers (cores.turbo_mode_please)"
        )
    );
}
