//! The words an operator reads, in full: one file with a mistake in nearly every line, and every sentence about it.

use std::path::Path;

use crate::load;

#[test]
fn a_file_full_of_mistakes_is_answered_with_all_of_them() {
    let faults = load(include_str!("faulty/edge.toml"), Path::new("edge.toml")).unwrap_err();
    assert_eq!(format!("{faults}\n"), include_str!("faulty/edge.txt"));
}

#[test]
fn every_syntax_error_has_its_line() {
    let text = "[appliance\nname = \"a\"\nx = \n[cores]\nworkers = [1\n[cores]\n";
    let faults = load(text, Path::new("edge.toml")).unwrap_err();
    assert_eq!(format!("{faults}\n"), include_str!("faulty/syntax.txt"));
}
