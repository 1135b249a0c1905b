//! The command line, as people and scripts see it.

use serde_json::Value;

use crate::appliance::Served;

#[test]
fn commands_print_tables_and_json_and_exit_as_documented() {
    let served = Served::new();
    for what in "ports workers sessions services firewall neighbors routes nat drops top memory policy".split(' ') {
        let (status, answers, complaints) = served.millrace(&format!("show {what}"));
        assert_eq!((status, complaints.as_str()), (0, ""), "{what}");
        assert!(answers.lines().count() > 1, "{what}: {answers}");
        let (status, answers, _) = served.millrace(&format!("show {what} --json"));
        assert_eq!(status, 0, "{what}");
        assert!(serde_json::from_str::<Value>(&answers).is_ok(), "{what}: {answers}");
    }
    let (status, answers, _) = served.millrace("drain service shop");
    assert_eq!((status, answers.as_str()), (0, "no new sessions for 2 backends; 7 sessions to run out\n"));
    for (line, wanted) in [("drain service nobody", 1), ("drain nobody shop", 2), ("show nothing", 2)] {
        let (status, answers, complaints) = served.millrace(line);
        assert_eq!((status, answers.as_str()), (wanted, ""), "{line}");
        assert!(!complaints.is_empty(), "{line}");
    }

    let good = served.folder.path().join("good.toml");
    std::fs::write(&good, "# nothing").unwrap();
    let (status, answers, _) = served.millrace(&format!("apply {}", good.display()));
    assert_eq!((status, answers.as_str()), (0, "edge.toml:3:1: warning[c]: odd\ngeneration 3 is in force\n"));
    let bad = served.folder.path().join("bad.toml");
    std::fs::write(&bad, "fault").unwrap();
    let (status, _, complaints) = served.millrace(&format!("apply {}", bad.display()));
    assert_eq!((status, complaints.lines().count()), (1, 3), "{complaints}");
}

#[test]
fn check_and_doctor_say_every_fault_and_exit_with_1() {
    let served = Served::new();
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples");
    let (status, answers, _) = served.millrace(&format!("check {examples}/edge.toml"));
    assert_eq!((status, answers.trim_end().ends_with("edge.toml: valid")), (0, true), "{answers}");
    let bad = served.folder.path().join("bad.toml");
    std::fs::write(&bad, "colour = 1\n[ports]\n").unwrap();
    for command in ["check", "doctor"] {
        let (status, answers, complaints) = served.millrace(&format!("{command} {}", bad.display()));
        assert_eq!((status, answers.as_str()), (1, ""), "{complaints}");
        assert!(complaints.contains("bad.toml:1:1: error[") && complaints.contains("bad.toml:2:"), "{complaints}");
    }
    // The examples' interfaces are on no machine until somebody makes them.
    let (status, answers, _) = served.millrace(&format!("doctor --json {examples}/edge.toml"));
    let findings: Value = serde_json::from_str(&answers).unwrap();
    let missing = findings.as_array().unwrap().iter().any(|finding| finding["state"] == "missing");
    assert_eq!(status, u8::from(missing));
}
